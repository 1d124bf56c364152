"""What a report collects about containerd."""

from __future__ import annotations

from collections.abc import Iterable

from xk8s.overlay import NODE_ROLES, Observation


def observations() -> Iterable[Observation]:
    """What the runtime has."""
    ctr = ("ctr", "-n", "k8s.io")
    for name, argv in (
        ("images", (*ctr, "images", "ls")),
        ("containers", (*ctr, "containers", "ls")),
        ("tasks", (*ctr, "tasks", "ls")),
        ("version", ("ctr", "version")),
        ("plugins", ("ctr", "plugins", "ls")),
    ):
        yield Observation(name=f"cri/{name}", argv=argv, roles=NODE_ROLES)
