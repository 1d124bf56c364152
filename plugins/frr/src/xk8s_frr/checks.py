"""Checks that neighbours have sessions, and that the kernels have the resulting routes."""

from __future__ import annotations

import json
from typing import Any

from xk8s.checks import CheckContext, NotYet
from xk8s.context import Context
from xk8s.errors import CheckFailed
from xk8s.overlay import NODE_ROLES, Node

from xk8s_frr import peers
from xk8s_frr.settings import anycast


def sessions(context: CheckContext) -> str:
    """Check that every router has a session with every node and tester, in each family."""
    ctx = context.access.ctx
    count = 0
    for router in ctx.by_role("router"):
        for version in peers.versions(ctx):
            found = _vtysh(context, router, f"show bgp ipv{version} unicast summary json")
            states = {
                address: str(peer.get("state")) for address, peer in found.get("peers", {}).items()
            }
            for address, name in peers.neighbours(ctx, router, version).items():
                if (state := states.get(address, "missing")) != "Established":
                    raise NotYet(f"{router.name}: session with {name} ({address}) is {state}")
                count += 1
    return f"{count} established"


def routes(context: CheckContext) -> str:
    """Check that routers route anycast addresses to all nodes, testers to all routers."""
    ctx = context.access.ctx
    seen = []
    for address in anycast(ctx):
        for node in ctx.by_role("router", "tester"):
            wanted = gateways(ctx, node, address.version)
            words = (
                "ip",
                "-j",
                f"-{address.version}",
                "route",
                "show",
                f"{address}/{address.max_prefixlen}",
            )
            listing = context.ok(node.name, *words)
            if (found := next_hops(listing)) != wanted:
                raise NotYet(
                    f"{node.name} routes {address} to {', '.join(sorted(found)) or 'nobody'}, "
                    f"not to {', '.join(sorted(wanted))}"
                )
        seen.append(f"{address} by {len(ctx.by_role(*NODE_ROLES))} nodes")
    return ", ".join(seen) or "no anycast address"


def gateways(ctx: Context, node: Node, version: int) -> set[str]:
    """Return where a router or tester sends packets for an anycast address."""
    if node.role == "tester":
        return {peers.address(router, peers.OUTSIDE, version) for router in ctx.by_role("router")}
    return {peers.address(other, 1, version) for other in ctx.by_role(*NODE_ROLES)}


def next_hops(listing: str) -> set[str]:
    """Return the gateways in the output of ``ip -j route show PREFIX``."""
    found = set()
    for route in json.loads(listing or "[]"):
        for hop in route.get("nexthops", [route]):
            if gateway := hop.get("gateway"):
                found.add(str(gateway))
    return found


def explain(context: CheckContext) -> str:
    """Return the state of the routers' and testers' daemons."""
    parts = []
    for node in context.access.ctx.by_role("router", "tester"):
        try:
            said = context.ok(node.name, "vtysh", "-c", "show bgp all summary")
            log = context.ok(node.name, "journalctl", "-u", "frr", "-n", "20", "--no-pager")
        except NotYet as error:
            said, log = str(error), ""
        parts.append(f"{node.name}:\n{said}\n{log}")
    return "\n".join(parts)


def _vtysh(context: CheckContext, node: Node, command: str) -> dict[str, Any]:
    text = context.ok(node.name, "vtysh", "-c", command)
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise CheckFailed(f"{node.name}: {command!r} printed no JSON: {text[:200]}") from error
    return found
