"""Settings of the overlay ``frr``."""

from __future__ import annotations

import ipaddress

from attrs import evolve, frozen
from xk8s.context import Context
from xk8s.errors import UsageError
from xk8s.limits import address, between, each
from xk8s.overlay import Role, setting

AS_NUMBER = evolve(between(1, 4294967294), complaint="is not an AS number")

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@frozen(kw_only=True)
class FrrSettings:
    """Autonomous systems, announced addresses, and how soon a dead neighbour is noticed."""

    anycast: tuple[str, ...] = setting(
        ("10.0.1.1", "1000:0:0:1::1"),
        "addresses that every node has on its loopback interface and announces",
        limit=each(address()),
    )
    hold: int = setting(
        9, "seconds of silence after which a neighbour counts as dead", limit=between(3, 65535)
    )
    nodes_as: int = setting(64512, "number of the nodes' autonomous system", limit=AS_NUMBER)
    routers_as: int = setting(64513, "number of the routers' autonomous system", limit=AS_NUMBER)
    testers_as: int = setting(64514, "number of the testers' autonomous system", limit=AS_NUMBER)

    def __attrs_post_init__(self) -> None:
        """Raise `UsageError` for what bgpd would refuse once the cluster has booted."""
        numbers = {
            "frr.nodes_as": self.nodes_as,
            "frr.routers_as": self.routers_as,
            "frr.testers_as": self.testers_as,
        }
        if len(set(numbers.values())) < len(numbers):
            raise UsageError(
                f"{', '.join(numbers)} must differ: {', '.join(map(str, numbers.values()))}",
                hint="all sessions are external ones (eBGP); 64512 to 65534 are free for anyone",
            )

    def number(self, role: Role) -> int:
        """Return the autonomous system of the VMs of a role."""
        return {"router": self.routers_as, "tester": self.testers_as}.get(role, self.nodes_as)


def anycast(ctx: Context) -> tuple[IpAddress, ...]:
    """Return the addresses in the cluster's IP families."""
    found = map(ipaddress.ip_address, ctx.settings(FrrSettings).anycast)
    return tuple(address for address in found if (ctx.ipv4 if address.version == 4 else ctx.ipv6))
