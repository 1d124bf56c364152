"""What a report collects about FRR."""

from __future__ import annotations

from collections.abc import Iterator

from xk8s.overlay import Observation


def observations() -> Iterator[Observation]:
    """Return FRR's state, its routes and its configuration."""
    for name, command in (
        ("summary", "show bgp all summary"),
        ("bgp", "show bgp all"),
        ("routes", "show ip route"),
        ("routes6", "show ipv6 route"),
        ("config", "show running-config"),
    ):
        yield Observation(name=f"frr/{name}", argv=("vtysh", "-c", command))
