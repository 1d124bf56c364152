"""Checks that addresses of Services are reached from outside."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from xk8s.checks import CheckContext, NotYet
from xk8s.context import Context
from xk8s.errors import CheckFailed
from xk8s.overlay import Check
from xk8s_kubernetes import addresses
from xk8s_kubernetes.checks import journal
from xk8s_mconnect.client import connect
from xk8s_mconnect.overlay import vips
from xk8s_mconnect.settings import PORT, MconnectSettings

from xk8s_externalip import loadbalancer
from xk8s_externalip.settings import ExternalipSettings

CONNECTS = 400
"""Number of connections that the seed makes: enough that a share of 100 cannot differ by ±50 % by
chance.
"""


def checks(ctx: Context) -> Iterator[Check]:
    """Return checks that the program that assigns addresses has seen all Services, and that
    connections from outside reach every pod by each address.
    """
    if ctx.settings(ExternalipSettings).load_balancer:
        yield Check(
            name="load balancer", run=check_load_balancer, timeout=180.0, interval=2.0,
            explain=explain_load_balancer,
        )  # fmt: skip
    for vip in vips(ctx):
        yield Check(
            name=f"externalip {vip}",
            run=functools.partial(check_vip, vip=vip),
            timeout=600.0,
            interval=2.0,
        )


def check_vip(context: CheckContext, vip: str) -> str:
    """Wait until every pod answers; from then on no connection may fail."""
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


def check_load_balancer(context: CheckContext) -> str:
    """Check that its unit is ready: it says so once the API server gave it the list of Services."""
    node = addresses.control_plane(context.access.ctx).name
    argv = ("systemctl", "show", "--property=ActiveState,StatusText", loadbalancer.UNIT)
    seen = dict(line.split("=", 1) for line in context.ok(node, *argv).splitlines())
    if seen.get("ActiveState") != "active":
        raise NotYet(f"{loadbalancer.UNIT} is {seen.get('ActiveState')}")
    return f"{loadbalancer.UNIT} is ready: {seen.get('StatusText')}"


def explain_load_balancer(context: CheckContext) -> str:
    """Return its log."""
    node = addresses.control_plane(context.access.ctx).name
    return journal(context, node, ("kube-manifests", loadbalancer.UNIT))
