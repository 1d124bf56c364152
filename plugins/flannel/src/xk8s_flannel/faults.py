"""Faults of flannel."""

from __future__ import annotations

from xk8s.overlay import Fault

FAULTS = (
    Fault(
        name="flannel-no-subnet",
        pattern=r"open /run/flannel/subnet\.env: no such file",
        cause="a pod is starting on a node whose flanneld has no range of addresses yet",
        remedy="xk8s logs NODE flanneld says what it waits for",
        examples=(
            'plugin type="flannel" failed (add): open /run/flannel/subnet.env: no such file or '
            "directory",
        ),
        transient=True,
    ),
)
