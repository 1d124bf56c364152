"""What a report collects about kube-router."""

from __future__ import annotations

from collections.abc import Iterator

from xk8s.overlay import NODE_ROLES, Observation


def observations() -> Iterator[Observation]:
    """Return its log, and the sets that implement policies."""
    for name, argv in (
        ("log/kube-router.log", ("tail", "-n", "2000", "/var/log/kube-router.log")),
        ("network/ipset", ("ipset", "list")),
    ):
        yield Observation(name=name, argv=argv, roles=NODE_ROLES)
