"""Content of a picture of a plan: nodes on networks, and which VM has which layers; as Mermaid
text.

`xk8s.planning.diagram_svg` draws the same as SVG.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Literal

from attrs import frozen

from xk8s.overlay import Network, Role
from xk8s.planning.plan import NODE_LAYER, Plan, PlannedNode

Part = Literal["networks", "layers"]
PARTS: tuple[Part, ...] = ("networks", "layers")
_SHOWN = 4
"""If there are more VMs of one role than this, only the first ones and the last one are drawn."""
OUTSIDE = "this machine"
OWN_FILES = "own files"


@frozen(kw_only=True)
class Box:
    """A VM, or several of one role that are not drawn individually: ``networks`` are indexes."""

    name: str
    lines: tuple[str, ...]
    networks: tuple[int, ...]


@frozen(kw_only=True)
class Block:
    """A layer made by ``overlay``; the VMs of ``roles`` have it."""

    name: str
    overlay: str
    roles: frozenset[Role]


@frozen(kw_only=True)
class Graph:
    """Everything that is drawn. ``networks`` are those between VMs; ``blocks`` are lowest first;
    ``routes`` are prefixes that are reached through ``gateway`` from outside.
    """

    title: str
    networks: tuple[Network, ...]
    boxes: tuple[Box, ...]
    gateway: str
    routes: tuple[str, ...]
    roles: tuple[Role, ...]
    blocks: tuple[Block, ...]


def graph(plan: Plan) -> Graph:
    """Return what can be drawn of a plan."""
    roles = tuple(dict.fromkeys(planned.node.role for planned in plan.nodes))
    routers = plan.ctx.by_role("router")
    own = Block(name=OWN_FILES, overlay=NODE_LAYER, roles=frozenset(roles))
    local = {directory.layer for directory in plan.directories}
    layers = [
        Block(
            name=planned.layer.name,
            # A local directory's name is its whole path.
            overlay=f"{Path(planned.overlay).name}/"
            if planned.layer.name in local
            else planned.overlay,
            roles=frozenset(role for role in roles if role in planned.layer.roles),
        )
        for planned in plan.layers
    ]
    return Graph(
        title=" ".join(overlay.offer.name for overlay in plan.overlays),
        # Network 0 connects each VM with QEMU only.
        networks=tuple(network for network in plan.ctx.networks if network.index),
        boxes=tuple(_boxes(plan)),
        gateway=routers[0].name if routers else "",
        routes=plan.routes,
        roles=roles,
        blocks=(
            *(block for block in layers if block.name not in local and block.roles),
            own,
            *(block for block in layers if block.name in local),
        ),
    )


def mermaid(shown: Graph, parts: tuple[Part, ...]) -> str:
    """Return the picture as a flowchart of Mermaid."""
    lines = ["flowchart TB"]
    if "networks" in parts:
        lines += _mermaid_networks(shown)
    if "layers" in parts:
        lines += _mermaid_layers(shown)
    return "\n".join(lines) + "\n"


def _boxes(plan: Plan) -> Iterator[Box]:
    for role, group in groupby(plan.nodes, key=lambda planned: planned.node.role):
        nodes = list(group)
        if len(nodes) <= _SHOWN:
            yield from map(_box, nodes)
            continue
        yield from map(_box, nodes[: _SHOWN - 2])
        left = nodes[_SHOWN - 2 : -1]
        yield Box(
            name=f"{left[0].node.name} … {left[-1].node.name}",
            lines=(f"{len(left)} × {role}",),
            networks=_indexes(left[0]),
        )
        yield _box(nodes[-1])


def _box(planned: PlannedNode) -> Box:
    node = planned.node
    return Box(
        name=node.name,
        lines=(node.role, f"{node.cpus} CPU, {node.memory} MiB", *_forwards(planned)),
        networks=_indexes(planned),
    )


def _forwards(planned: PlannedNode) -> tuple[str, ...]:
    return tuple(f"{forward.name}: port {forward.guest_port}" for forward in planned.forwards)


def _indexes(planned: PlannedNode) -> tuple[int, ...]:
    return tuple(nic.network for nic in planned.node.nics if nic.network)


def network_label(network: Network) -> str:
    """Return a network's number and prefixes."""
    return f"network {network.index}: {network.ipv4}, {network.ipv6}"


def outside_label(shown: Graph) -> str:
    """Return how the addresses behind the router are reached, as one line; empty if there
    are none.
    """
    return f"{', '.join(shown.routes)} by {shown.gateway}" if shown.routes else ""


def _mermaid_networks(shown: Graph) -> Iterator[str]:
    numbers = {box.name: f"vm{index}" for index, box in enumerate(shown.boxes)}
    for network in shown.networks:
        yield f'  net{network.index}[/"{network_label(network)}"/]'
    for box in shown.boxes:
        yield f'  {numbers[box.name]}["{"<br>".join((box.name, *box.lines))}"]'
    yield f'  host(["{"<br>".join(filter(None, (OUTSIDE, outside_label(shown))))}"])'
    for box in shown.boxes:
        # Nodes above the cluster's network, routers between it and the outside.
        first, *rest = box.networks
        above, below = (box.name, None) if not rest else (None, box.name)
        name = numbers[box.name]
        yield f"  {name} --- net{first}" if above else f"  net{first} --- {name}"
        if below:
            yield from (f"  {name} --- net{index}" for index in rest)
    if shown.networks:
        yield f"  net{shown.networks[-1].index} --- host"


def _mermaid_layers(shown: Graph) -> Iterator[str]:
    for number, role in enumerate(shown.roles):
        own = [block for block in reversed(shown.blocks) if role in block.roles]
        yield f'  subgraph layers{number}["layers of {role}"]'
        names = [f"r{number}l{index}" for index in range(len(own))]
        for name, block in zip(names, own, strict=True):
            yield f'    {name}["{block.name}<br>({block.overlay})"]'
        yield "    " + " --- ".join(names)
        yield "  end"
