"""Settings of the overlay ``externalip``."""

from __future__ import annotations

import ipaddress

from attrs import frozen
from xk8s.context import Context
from xk8s.errors import UsageError
from xk8s.overlay import setting

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@frozen(kw_only=True)
class ExternalipSettings:
    """The prefixes that the routers route to the nodes, and who assigns their addresses."""

    ipv4: str = setting("10.0.0.0/24", "prefix of virtual IPv4 addresses")
    ipv6: str = setting("1000::/64", "prefix of virtual IPv6 addresses")
    load_balancer: bool = setting(
        True, "assign addresses from these prefixes to Services of type LoadBalancer"
    )


def prefixes(ctx: Context) -> tuple[IpNetwork, ...]:
    """Return the prefixes of the cluster's IP families. `UsageError` for anything but a prefix of
    its family.
    """
    settings = ctx.settings(ExternalipSettings)
    found: list[IpNetwork] = []
    if ctx.ipv4:
        found.append(_parse("ipv4", settings.ipv4, 4, "10.0.0.0/24"))
    if ctx.ipv6:
        found.append(_parse("ipv6", settings.ipv6, 6, "1000::/64"))
    return tuple(found)


def _parse(key: str, text: str, version: int, example: str) -> IpNetwork:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise UsageError(f"externalip.{key}: {error}", hint=f"such as {example}") from error
    if network.version != version:
        raise UsageError(f"externalip.{key}={text} is IPv{network.version}", hint=f"as {example}")
    return network
