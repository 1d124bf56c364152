"""etcd: the store of the control plane, TLS only, in the node's memory."""

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
"""The memory file system with its data."""

__all__ = ["CA", "DATA", "PKI", "ROLES"]
