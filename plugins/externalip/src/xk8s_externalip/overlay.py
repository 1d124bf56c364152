"""The hooks of the overlay ``externalip``."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING

from xk8s import hookimpl
from xk8s.context import Context
from xk8s.errors import UsageError
from xk8s.overlay import (
    NODE_ROLES,
    Check,
    File,
    Fragment,
    KernelNeeds,
    Layer,
    Node,
    Overlay,
    Role,
    Sysctl,
)
from xk8s_kubernetes.addresses import pod_cidrs, service_cidrs
from xk8s_mconnect.overlay import vips
from xk8s_mconnect.settings import MconnectSettings

from xk8s_externalip import loadbalancer
from xk8s_externalip.checks import checks
from xk8s_externalip.settings import ExternalipSettings, IpNetwork, prefixes

if TYPE_CHECKING:
    from xk8s.pki import Keys

_ROUTERS: frozenset[Role] = frozenset({"router"})


@hookimpl
def xk8s_overlay() -> Overlay:
    """Describe ECMP routes on the routers, addresses for Services, and the checks of both."""
    return Overlay(
        summary="addresses for Services, routed to all nodes with ECMP",
        requires=("kubernetes", "mconnect"),
        settings=ExternalipSettings,
    )


@hookimpl
def xk8s_kernel(ctx: Context) -> KernelNeeds:  # noqa: ARG001
    """Require equal-cost routes."""
    return KernelNeeds(config=("IP_ROUTE_MULTIPATH",))


@hookimpl
def xk8s_fragments(ctx: Context) -> Iterator[Fragment]:
    """Route the prefixes from the cluster's namespace, where clients are, to the first router, and
    spread connections over nodes there; with frr, nodes announce the prefixes.
    """
    _check_settings(ctx)
    for prefix in prefixes(ctx):
        yield Fragment(point="cluster.route", value=str(prefix))
        if _learnt(ctx):
            yield Fragment(point="frr.announce", value=str(prefix))
    # By ports too: by addresses alone, all connections of a client would take the same node.
    for family in ("ipv4", "ipv6"):
        key = f"net.{family}.fib_multipath_hash_policy"
        yield Fragment(point="cluster.sysctl", value=Sysctl(key=key, value="1", roles=_ROUTERS))
    if _load_balancer(ctx):
        yield Fragment(point="kubernetes.manifest", value=loadbalancer.manifest(ctx))


@hookimpl
def xk8s_layers(ctx: Context) -> Iterator[Layer]:
    """Return the program that assigns addresses."""
    if _load_balancer(ctx):
        yield loadbalancer.layer(ctx)


@hookimpl
def xk8s_node_files(ctx: Context, node: Node) -> Iterator[File]:
    """Return the routes of a router, as a drop-in to its interface on network 1, unless it learns
    them.
    """
    if node.role != "router" or _learnt(ctx):
        return
    text = "\n".join(route(str(prefix), _gateways(ctx, prefix)) for prefix in prefixes(ctx))
    yield File(path="/etc/systemd/network/20-eth1.network.d/externalip.conf", data=text.encode())


@hookimpl
def xk8s_secrets(ctx: Context, node: Node, keys: Keys) -> Iterator[File]:
    """Return the identity of that program."""
    return loadbalancer.secrets(node, keys) if _load_balancer(ctx) else iter(())


@hookimpl
def xk8s_checks(ctx: Context) -> Iterator[Check]:
    """Check that the program has seen all Services, and that connections from outside reach every
    pod at each address.
    """
    return checks(ctx)


def route(prefix: str, gateways: list[str]) -> str:
    """Return a networkd section: one gateway is a plain route, more are equal-cost ones."""
    lines = ["[Route]", f"Destination={prefix}"]
    if len(gateways) == 1:
        lines.append(f"Gateway={gateways[0]}")
    else:
        lines += [f"MultiPathRoute={gateway}" for gateway in gateways]
    return "\n".join(lines) + "\n"


def _learnt(ctx: Context) -> bool:
    """Return whether routers learn the routes to the nodes by BGP, and so notice that one of them
    is gone.
    """
    return "frr" in ctx.overlays


def _load_balancer(ctx: Context) -> bool:
    return ctx.settings(ExternalipSettings).load_balancer


def _check_settings(ctx: Context) -> None:
    """Refuse what would otherwise be a check that waits for minutes to no avail."""
    pools = prefixes(ctx)
    for pool in pools:
        _check_pool(ctx, pool)
    for vip in vips(ctx):
        if not any(ipaddress.ip_address(vip) in pool for pool in pools):
            raise UsageError(
                f"mconnect's address {vip} is not one that the routers route to the nodes",
                hint=f"choose one of {', '.join(map(str, pools))} (mconnect.vip4, mconnect.vip6)",
            )
    if ctx.settings(MconnectSettings).service == "LoadBalancer" and not _load_balancer(ctx):
        raise UsageError(
            "mconnect.service=LoadBalancer, but nothing assigns it an address",
            hint="leave externalip.load_balancer=true, or mconnect.service=externalIPs",
        )


def _check_pool(ctx: Context, pool: IpNetwork) -> None:
    """Refuse a prefix that others have. It may contain a network, whose own route is the longer."""
    networks = [
        ipaddress.ip_interface(text).network
        for network in ctx.networks
        for text in (network.ipv4, network.ipv6)
    ]
    ranges = map(ipaddress.ip_network, (*pod_cidrs(ctx), *service_cidrs(ctx)))
    taken = [(other, "within a network of the cluster") for other in networks]
    taken = [pair for pair in taken if _within(pool, pair[0])]
    taken += [
        (other, "also one of kubernetes.pod_cidr or kubernetes.service_cidr")
        for other in ranges
        if other.version == pool.version and other.overlaps(pool)
    ]
    for other, what in taken:
        raise UsageError(
            f"externalip.ipv{pool.version}={pool} is {what}: {other}",
            hint="choose a prefix that nothing else uses",
        )


def _within(pool: IpNetwork, other: IpNetwork) -> bool:
    return (
        pool.version == other.version
        and pool.overlaps(other)
        and (pool.prefixlen >= other.prefixlen)
    )


def _gateways(ctx: Context, prefix: IpNetwork) -> list[str]:
    nics = [node.nic(1) for node in ctx.by_role(*NODE_ROLES)]
    return [
        str(ipaddress.ip_interface(nic.ipv6 if prefix.version == 6 else nic.ipv4).ip)
        for nic in nics
    ]
