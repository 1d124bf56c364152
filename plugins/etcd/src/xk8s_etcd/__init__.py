"""etcd: the store of the control plane, TLS only, in the node's memory."""

from __future__ import annotations

CA = "etcd-ca"
"""Name in the cluster's keys of the authority that etcd trusts; clients get their certificates
from it."""

__all__ = ["CA"]
