"""etcd: the store of the control plane, TLS only, in the node's memory."""

from __future__ import annotations

CA = "etcd-ca"
"""Name, among the cluster's keys, of the authority that etcd trusts; it signs the certificates of
clients.
"""

__all__ = ["CA"]
