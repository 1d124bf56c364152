"""etcd: the store of the control plane, TLS only, on a volume of the node."""

from __future__ import annotations

from xk8s.overlay import Role

CA = "etcd-ca"
"""Name, among the cluster's keys, of the authority that etcd trusts; it signs the certificates of
clients.
"""

PKI = "/etc/etcd/pki"
"""Where a node has the keys and certificates of etcd."""

ROLES: frozenset[Role] = frozenset({"control-plane"})
"""The nodes that run etcd."""

DATA = "/var/lib/etcd"
"""The volume with its data."""

__all__ = ["CA", "DATA", "PKI", "ROLES"]
