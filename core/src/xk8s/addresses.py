"""The address plan: host parts and prefixes of the networks."""

from __future__ import annotations

import ipaddress

HOST_PART = 250
"""Host part of the bridge of each network, in the cluster's namespace."""

HOST_LOOPBACK = "192.168.255.2"
"""How VMs know this machine's 127.0.0.1, as far as it is open to them."""

RESOLVER = "192.168.255.3"
"""Resolver of the VMs: it asks this machine's, if `cluster.outside` is not ``none``."""


def address(network: int, host: int, *, ipv6: bool = False) -> str:
    """Return the address with host part ``host`` (1 to 254) on network 1 or 2, without prefix
    length.

    >>> address(1, 201), address(1, 201, ipv6=True)
    ('192.168.1.201', '1000::1:c0a8:1c9')
    """
    return str(host_ipv6(network, host)) if ipv6 else f"192.168.{network}.{host}"


def host_ipv6(network: int, host: int) -> ipaddress.IPv6Address:
    """Return the IPv6 address that goes with 192.168.NETWORK.HOST."""
    return ipaddress.IPv6Address(f"1000::{network}:192.168.{network}.{host}")
