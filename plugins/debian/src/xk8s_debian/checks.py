"""Checks that the base system of every node is as its files say."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from xk8s.checks import CheckContext, NotYet
from xk8s.context import Context
from xk8s.overlay import Check, Node


def checks(ctx: Context) -> Iterator[Check]:
    """Check the addresses: networkd sets them after the start of the guest's agent, and whoever
    logs in then, or requests a report, must not find a node without them.
    """

    def run(context: CheckContext) -> str:
        for node in ctx.nodes:
            listing = context.ok(node.name, "ip", "-o", "address")
            if lacking := missing(ctx, node, listing):
                raise NotYet(f"{node.name} lacks {', '.join(lacking)}")
        return f"{len(ctx.nodes)} nodes have theirs"

    yield Check(name="addresses", run=run)


def missing(ctx: Context, node: Node, listing: str) -> list[str]:
    """Return addresses of a node, in the cluster's IP families, that ``ip -o address`` does not
    show.
    """
    # "2: eth0    inet 192.168.0.1/24 brd …": index, interface, family, address.
    shown = {
        (words[1], ipaddress.ip_interface(words[3]))
        for line in listing.splitlines()
        if len(words := line.split()) > 3 and words[2] in ("inet", "inet6")
    }
    lacking = []
    for nic in node.nics:
        wanted = [nic.ipv4] * ctx.ipv4 + [nic.ipv6] * ctx.ipv6
        for address in wanted:
            if (f"eth{nic.network}", ipaddress.ip_interface(address)) not in shown:
                lacking.append(f"{address} on eth{nic.network}")
    return lacking
