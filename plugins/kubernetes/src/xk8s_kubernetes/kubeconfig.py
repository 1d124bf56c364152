"""A kubeconfig with everything embedded."""

from __future__ import annotations

import base64

import yaml
from xk8s.pki import Pair


def kubeconfig(*, name: str, server: str, ca: bytes, user: str, pair: Pair) -> bytes:
    """Return one cluster, user and context; the cluster and the context are called ``name``."""
    cluster = {"certificate-authority-data": _base64(ca), "server": server}
    credentials = {
        "client-certificate-data": _base64(pair.cert),
        "client-key-data": _base64(pair.key),
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
        "current-context": name,
    }
    return yaml.safe_dump(config, sort_keys=True).encode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
