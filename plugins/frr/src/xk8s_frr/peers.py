"""BGP peers: who has sessions with whom, and what each announces.

Nodes and testers open sessions to the routers; routers accept any neighbour in their networks, so
nothing changes on a router if there are more nodes. One session per IP family.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from attrs import frozen
from xk8s.context import Context
from xk8s.overlay import NODE_ROLES, Network, Node
from xk8s.render import render_text

from xk8s_frr import ANNOUNCE_POINT
from xk8s_frr.settings import FrrSettings

OUTSIDE = 2
"""Index of the network between routers and testers."""


@frozen(kw_only=True)
class Group:
    """Neighbours of one kind and IP family: their ``addresses``, or who may connect
    (``listen``).
    """

    name: str
    version: int
    number: int
    addresses: tuple[str, ...] = ()
    listen: str = ""


@frozen(kw_only=True)
class Family:
    """An address family with the prefixes that are announced in it."""

    name: str
    version: int
    announced: tuple[str, ...]


def config(ctx: Context, node: Node) -> str:
    """Return a VM's /etc/frr/frr.conf."""
    settings = ctx.settings(FrrSettings)
    groups = tuple(_groups(ctx, node))
    return render_text(
        "xk8s_frr",
        "frr.conf.j2",
        ctx,
        node=node,
        number=settings.number(node.role),
        router_id=address(node, 1, 4),
        keepalive=max(1, settings.hold // 3),
        hold=settings.hold,
        groups=groups,
        listens=any(group.listen for group in groups),
        families=tuple(_families(ctx, node)),
        is_node=node.role in NODE_ROLES,
    )


def versions(ctx: Context) -> tuple[int, ...]:
    """Return 4, 6 or both."""
    return (4,) * ctx.ipv4 + (6,) * ctx.ipv6


def address(node: Node, network: int, version: int) -> str:
    """Return the address of a VM's interface, without its prefix length."""
    nic = node.nic(network)
    return str(ipaddress.ip_interface(nic.ipv4 if version == 4 else nic.ipv6).ip)


def prefix(network: Network, version: int) -> str:
    """Return the prefix of a network."""
    return network.ipv4 if version == 4 else network.ipv6


def met_on(node: Node) -> int:
    """Return the index of the network on which a node or tester meets the routers."""
    return OUTSIDE if node.role == "tester" else 1


def neighbours(ctx: Context, router: Node, version: int) -> dict[str, str]:  # noqa: ARG001
    """Return the names, by address, of all VMs that have a session with a router."""
    others = ctx.by_role(*NODE_ROLES, "tester")
    return {address(peer, met_on(peer), version): peer.name for peer in others}


def outside(ctx: Context) -> Network:
    """Return the network beyond the routers."""
    return next(network for network in ctx.networks if network.index == OUTSIDE)


def _groups(ctx: Context, node: Node) -> Iterator[Group]:
    settings = ctx.settings(FrrSettings)
    networks = {network.index: network for network in ctx.networks}
    for version in versions(ctx):
        if node.role != "router":
            yield Group(
                name=f"routers{version}",
                version=version,
                number=settings.routers_as,
                addresses=tuple(
                    address(router, met_on(node), version) for router in ctx.by_role("router")
                ),
            )
            continue
        for name, index, number in (
            ("nodes", 1, settings.nodes_as),
            ("testers", OUTSIDE, settings.testers_as),
        ):
            yield Group(
                name=f"{name}{version}",
                version=version,
                number=number,
                listen=prefix(networks[index], version),
            )


def _families(ctx: Context, node: Node) -> Iterator[Family]:
    for version in versions(ctx):
        announced: list[str] = []
        if node.role == "router":
            announced = [prefix(outside(ctx), version)]
        elif node.role in NODE_ROLES:
            announced = [
                fragment
                for fragment in ctx.fragments(ANNOUNCE_POINT, str)
                if ipaddress.ip_network(fragment).version == version
            ]
        yield Family(name=f"ipv{version}", version=version, announced=tuple(announced))
