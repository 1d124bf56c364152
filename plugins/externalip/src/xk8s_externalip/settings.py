"""Settings of the overlay ``externalip``."""

from __future__ import annotations

import ipaddress

from attrs import frozen
from xk8s.context import Context
from xk8s.limits import prefix
from xk8s.overlay import setting

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@frozen(kw_only=True)
class ExternalipSettings:
    """The prefixes that the routers route to the nodes, and who assigns their addresses."""

    ipv4: str = setting("10.0.0.0/24", "prefix of virtual IPv4 addresses", limit=prefix(4, 8, 30))
    ipv6: str = setting("1000::/64", "prefix of virtual IPv6 addresses", limit=prefix(6, 8, 126))
    load_balancer: bool = setting(
        True, "assign addresses from these prefixes to Services of type LoadBalancer"
    )


def prefixes(ctx: Context) -> tuple[IpNetwork, ...]:
    """Return the prefixes of the cluster's IP families."""
    settings = ctx.settings(ExternalipSettings)
    found: list[IpNetwork] = []
    if ctx.ipv4:
        found.append(ipaddress.ip_network(settings.ipv4))
    if ctx.ipv6:
        found.append(ipaddress.ip_network(settings.ipv6))
    return tuple(found)
