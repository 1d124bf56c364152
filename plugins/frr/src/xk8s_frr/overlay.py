"""The hooks of the overlay ``frr``."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from xk8s import hookimpl
from xk8s.context import Context
from xk8s.errors import UsageError
from xk8s.overlay import (
    NODE_ROLES,
    Check,
    Fault,
    File,
    Fragment,
    GuestNeeds,
    KernelNeeds,
    Layer,
    Node,
    Observation,
    Overlay,
    Point,
)
from xk8s.render import render_tree

from xk8s_frr import ANNOUNCE_POINT, checks, peers
from xk8s_frr.faults import FAULTS
from xk8s_frr.observe import observations
from xk8s_frr.settings import FrrSettings, anycast

_UNITS = ("frr.service",)


@hookimpl
def xk8s_overlay() -> Overlay:
    """Describe BGP by FRR, Debian's package."""
    return Overlay(
        summary="routes learned by BGP: nodes peer with routers, and these with testers",
        requires=("debian",),
        settings=FrrSettings,
        points={
            ANNOUNCE_POINT: Point(
                type=str,
                help="A prefix that all nodes announce to the routers, which spread over them.",
                example="10.0.0.0/24",
                sets=_announced,
            )
        },
    )


def _announced(prefix: str) -> dict[str, str]:
    ipaddress.ip_network(prefix)
    return {}


@hookimpl
def xk8s_kernel(ctx: Context) -> KernelNeeds:  # noqa: ARG001
    """Require equal-cost routes."""
    return KernelNeeds(config=("IP_ROUTE_MULTIPATH",))


@hookimpl
def xk8s_guest(ctx: Context) -> GuestNeeds:  # noqa: ARG001
    """Require the package's programs."""
    return GuestNeeds(programs=("vtysh",), files=("/usr/lib/frr/bgpd",))


@hookimpl
def xk8s_fragments(ctx: Context) -> Iterator[Fragment]:
    """Return the package; what is no longer a static route; and the route of clients outside."""
    if not ctx.by_role("router"):
        raise UsageError(
            "frr needs a router for nodes to peer with, and the cluster has none",
            hint="use --routers 1 or more",
        )
    yield Fragment(point="debian.packages", value="frr")
    for version in peers.versions(ctx):
        yield Fragment(point="debian.learnt", value=peers.prefix(peers.outside(ctx), version))
    for address in anycast(ctx):
        yield Fragment(point="cluster.route", value=f"{address}/{address.max_prefixlen}")


@hookimpl
def xk8s_layers(ctx: Context) -> Iterator[Layer]:
    """Return the list of daemons, and how connections are spread."""
    yield Layer(name="frr", entries=render_tree("xk8s_frr", "all", ctx), units=_UNITS)


@hookimpl
def xk8s_node_files(ctx: Context, node: Node) -> Iterator[File]:
    """Return a VM's configuration, and a node's anycast addresses."""
    yield File(path="/etc/frr/frr.conf", data=peers.config(ctx, node).encode(), units=_UNITS)
    if node.role in NODE_ROLES and (own := anycast(ctx)):
        lines = ["[Match]", "Name=lo", "", "[Network]"]
        lines += [f"Address={address}/{address.max_prefixlen}" for address in own]
        text = "\n".join(lines) + "\n"
        yield File(path="/etc/systemd/network/60-frr-lo.network", data=text.encode())


@hookimpl
def xk8s_checks(ctx: Context) -> Iterator[Check]:  # noqa: ARG001
    """Check sessions and the resulting routes."""
    yield Check(name="bgp sessions", run=checks.sessions, timeout=300.0, after_restore=True,
                explain=checks.explain)  # fmt: skip
    yield Check(name="bgp routes", run=checks.routes, timeout=120.0, after_restore=True,
                explain=checks.explain)  # fmt: skip


@hookimpl
def xk8s_faults() -> Iterator[Fault]:
    """Return faults of sessions that end or do not begin."""
    yield from FAULTS


@hookimpl
def xk8s_observe(ctx: Context) -> Iterator[Observation]:  # noqa: ARG001
    """Return FRR's state, its routes and its configuration."""
    return observations()
