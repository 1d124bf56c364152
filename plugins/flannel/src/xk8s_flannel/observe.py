"""What a report collects about flannel."""

from __future__ import annotations

from collections.abc import Iterator

from xk8s.overlay import NODE_ROLES, Observation


def observations() -> Iterator[Observation]:
    """Return its log, its subnet, and the tunnel's tables."""
    for name, argv in (
        ("log/flanneld.log", ("tail", "-n", "2000", "/var/log/flanneld.log")),
        ("flannel/subnet", ("cat", "/run/flannel/subnet.env")),
        ("flannel/fdb", ("bridge", "fdb", "show")),
    ):
        yield Observation(name=name, argv=argv, roles=NODE_ROLES)
