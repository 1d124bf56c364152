"""Faults of multinet."""

from __future__ import annotations

from xk8s.overlay import Fault

FAULTS = (
    Fault(
        name="multinet-annotation",
        pattern=r"annotation k8s\.v1\.cni\.cncf\.io/networks: ",
        cause="a pod requests a network that the nodes do not have, or in a form that multinet "
        "does not support",
        remedy="the annotation is NAME or NAME,NAME; the names are those of multinet.networks",
        examples=(
            'plugin type="multinet" failed (add): annotation k8s.v1.cni.cncf.io/networks: there is '
            'no network "nope" on this node; there is: net2',
        ),
    ),
)
