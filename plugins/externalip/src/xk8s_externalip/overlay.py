"""The hooks of the overlay ``externalip``."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterator

from attrs import frozen
from xk8s import hookimpl
from xk8s.checks import CheckContext, NotYet
from xk8s.context import Context
from xk8s.errors import CheckFailed
from xk8s.overlay import NODE_ROLES, Check, File, Fragment, KernelNeeds, Node, Overlay, setting
from xk8s_mconnect.client import connect
from xk8s_mconnect.overlay import vips
from xk8s_mconnect.settings import PORT, MconnectSettings

CONNECTS = 400
"""As many as the seed makes: enough for ±50 % of a share of 100 to be no accident."""

_HASH = """\
# By ports too: by addresses alone, all connections of a client would take the same node.
net.ipv4.fib_multipath_hash_policy = 1
net.ipv6.fib_multipath_hash_policy = 1
"""


@frozen(kw_only=True)
class ExternalipSettings:
    """Which prefixes the routers lead to the nodes."""

    ipv4: str = setting("10.0.0.0/24", "prefix of virtual IPv4 addresses")
    ipv6: str = setting("1000::/64", "prefix of virtual IPv6 addresses")


@hookimpl
def xk8s_overlay() -> Overlay:
    """ECMP routes on the routers, and the check that proves them."""
    return Overlay(
        summary="routers lead virtual addresses to all nodes by ECMP",
        requires=("kubernetes", "mconnect"),
        settings=ExternalipSettings,
    )


@hookimpl
def xk8s_kernel(ctx: Context) -> KernelNeeds:  # noqa: ARG001
    """Equal-cost routes."""
    return KernelNeeds(config=("IP_ROUTE_MULTIPATH",))


@hookimpl
def xk8s_fragments(ctx: Context) -> Iterator[Fragment]:
    """The cluster's namespace, where clients are, sends the prefixes to the first router."""
    for prefix in _prefixes(ctx):
        yield Fragment(point="cluster.route", value=prefix)


@hookimpl
def xk8s_node_files(ctx: Context, node: Node) -> Iterator[File]:
    """The routes of a router, as a drop-in to its interface on network 1."""
    if node.role != "router":
        return
    text = "\n".join(route(prefix, _gateways(ctx, prefix)) for prefix in _prefixes(ctx))
    yield File(path="/etc/systemd/network/20-eth1.network.d/externalip.conf", data=text.encode())
    yield File(path="/etc/sysctl.d/60-externalip.conf", data=_HASH.encode())


@hookimpl
def xk8s_checks(ctx: Context) -> Iterator[Check]:
    """Connections from outside reach every pod by each address."""
    for vip in vips(ctx):
        yield Check(
            name=f"externalip {vip}",
            run=functools.partial(check_vip, vip=vip),
            timeout=600.0,
            interval=2.0,
        )


def route(prefix: str, gateways: list[str]) -> str:
    """A networkd section: one gateway is a plain route, more are equal-cost ones."""
    lines = ["[Route]", f"Destination={prefix}"]
    if len(gateways) == 1:
        lines.append(f"Gateway={gateways[0]}")
    else:
        lines += [f"MultiPathRoute={gateway}" for gateway in gateways]
    return "\n".join(lines) + "\n"


def check_vip(context: CheckContext, vip: str) -> str:
    """First wait until every pod answers; from then on no connection may fail."""
    pods = context.access.ctx.settings(MconnectSettings).replicas
    trial = connect(context.access.dial, vip, PORT, nconn=8 * pods, timeout=3.0)
    if trial.failed or len(trial.answers) != pods:
        why = ", ".join(f"{count} x {reason}" for reason, count in trial.failures.items())
        raise NotYet(f"{len(trial.answers)} of {pods} pods answer on {vip}: {why or 'wait'}")
    tally = connect(context.access.dial, vip, PORT, nconn=CONNECTS)
    if tally.failed:
        raise CheckFailed(f"{tally.failed} of {CONNECTS} connections failed: {tally.failures}")
    if why := tally.uneven(pods):
        raise CheckFailed(f"connections to {vip} are not spread evenly: {why}")
    shares = "/".join(str(count) for count in tally.answers.values())
    return f"{CONNECTS} connects, 0 failed, {pods} pods: {shares}"


def _prefixes(ctx: Context) -> tuple[str, ...]:
    settings = ctx.settings(ExternalipSettings)
    v4 = (settings.ipv4,) if ctx.ipv4 else ()
    return v4 + ((settings.ipv6,) if ctx.ipv6 else ())


def _gateways(ctx: Context, prefix: str) -> list[str]:
    ipv6 = ipaddress.ip_network(prefix).version == 6
    nics = [node.nic(1) for node in ctx.by_role(*NODE_ROLES)]
    return [str(ipaddress.ip_interface(n.ipv6 if ipv6 else n.ipv4).ip) for n in nics]
