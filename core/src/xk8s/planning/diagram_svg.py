"""The picture of a plan as SVG: nodes on networks, and the layers that they stack."""

from __future__ import annotations

from collections.abc import Iterator

from xk8s.planning.diagram import OUTSIDE, Block, Box, Graph, Part, network_label, outside_label
from xk8s.util import svg

_MARGIN, _GAP = 16, 16
_WIDTH, _HEIGHT = 168, 78
_STUB = 22
"""Length of the line from a box to a network."""
_ROW, _LABEL = 26, 130
_LEAST = 560
_NAME = 326
"""Width of a network's label, including the space to its right."""

_LIGHT = """\
.vm { fill: #ddf4ff; stroke: #0969da; }
.host { fill: #f6f8fa; stroke: #818b98; }
.net { stroke: #0969da; stroke-width: 3; }
.wire { stroke: #818b98; stroke-width: 1.5; }
.layer { fill: #ddf4ff; stroke: #0969da; }
.own { fill: #fff8c5; stroke: #9a6700; }
.memory { fill: none; stroke: #818b98; stroke-dasharray: 4 3; }"""
_DARK = """\
  .vm { fill: #121d2f; stroke: #4493f8; }
  .host { fill: #151b23; stroke: #656c76; }
  .net { stroke: #4493f8; }
  .wire { stroke: #656c76; }
  .layer { fill: #121d2f; stroke: #4493f8; }
  .own { fill: #272115; stroke: #d29922; }
  .memory { stroke: #656c76; }"""


def draw(shown: Graph, parts: tuple[Part, ...]) -> str:
    """Draw the picture; its description says in words what it shows."""
    body: list[str] = []
    y, width = _MARGIN, _LEAST
    sentences: list[str] = []
    if "networks" in parts:
        part, y, needed = _networks(shown, y)
        body += part
        width = max(width, needed)
        sentences += _network_sentences(shown)
    if "layers" in parts:
        y += _GAP if body else 0
        part, y, needed = _layers(shown, y)
        body += part
        width = max(width, needed)
        sentences += _layer_sentences(shown)
    return svg.page(
        width,
        y + _MARGIN,
        title=f"{' and '.join(parts)}: {shown.title}",
        description=" ".join(sentences),
        light=_LIGHT,
        dark=_DARK,
        body=body,
    )


# --- nodes and networks -----------------------------------------------------------------


def _networks(shown: Graph, y: int) -> tuple[list[str], int, int]:
    """Draw from top to bottom: nodes, their network, VMs on both networks, the other network, the
    host.
    """
    inner = [box for box in shown.boxes if len(box.networks) == 1]
    between = [box for box in shown.boxes if len(box.networks) > 1]
    most = max(len(inner), len(between), 1)
    needed = max(_LEAST, 2 * _MARGIN + most * (_WIDTH + _GAP) - _GAP)
    if between:
        # Their wires pass the label of the network above them.
        needed = max(needed, _wire(_places(between)[-1][0]) + _NAME)
    body: list[str] = []
    # The label is above its network, and the wires are beside the label.
    rows = [inner, between]
    for row, network in zip(rows, shown.networks, strict=False):
        body += _row(row, y)
        # There may be no VM on the inner network alone.
        bus = y if row is inner and not inner else y + _HEIGHT + _STUB
        body += _wires(row, y + _HEIGHT, bus)
        body.append(svg.line("net", _MARGIN, bus, needed - _MARGIN, bus))
        body.append(svg.text(needed - _MARGIN, bus + 15, network_label(network), "small",
                             anchor="end"))  # fmt: skip
        following = rows[rows.index(row) + 1] if row is inner else []
        y = bus + _STUB
        body += _wires(following, bus, y)
    body += _host(shown, y)
    return body, y + _HEIGHT - 20, needed


def _row(boxes: list[Box], y: int) -> Iterator[str]:
    for x, box in _places(boxes):
        yield svg.box("vm", x, y, _WIDTH, _HEIGHT)
        yield svg.text(x + 10, y + 20, box.name, "head")
        for number, line in enumerate(box.lines[:3]):
            yield svg.text(x + 10, y + 38 + 16 * number, line, "small")


def _wires(boxes: list[Box], top: int, bottom: int) -> Iterator[str]:
    for x, _ in _places(boxes):
        yield svg.line("wire", _wire(x), top, _wire(x), bottom)


def _wire(x: int) -> int:
    """Return the horizontal position of a box's wire."""
    return x + 24


def _places(boxes: list[Box]) -> list[tuple[int, Box]]:
    return [(_MARGIN + index * (_WIDTH + _GAP), box) for index, box in enumerate(boxes)]


def _host(shown: Graph, y: int) -> Iterator[str]:
    yield svg.line("wire", _MARGIN + 24, y - _STUB, _MARGIN + 24, y)
    yield svg.box("host", _MARGIN, y, 2 * _WIDTH + _GAP, _HEIGHT - 20)
    yield svg.text(_MARGIN + 10, y + 20, f"{OUTSIDE}: the cluster's namespace", "head")
    label = outside_label(shown)
    yield svg.text(_MARGIN + 10, y + 40, label or "host part 250 on each network", "small")


def _network_sentences(shown: Graph) -> Iterator[str]:
    for network in shown.networks:
        there = [box.name for box in shown.boxes if network.index in box.networks]
        yield f"{network_label(network)}, has {', '.join(there) or 'nobody'}."
    if shown.routes:
        yield f"From outside: {outside_label(shown)}."


# --- layers -----------------------------------------------------------------------------


def _layers(shown: Graph, y: int) -> tuple[list[str], int, int]:
    """Draw a column per role, the lowest layer at the bottom; shared layers are drawn across the
    columns.
    """
    body: list[str] = []
    left = _MARGIN + _LABEL
    needed = left + len(shown.roles) * (_WIDTH + _GAP) - _GAP + _MARGIN
    for index, role in enumerate(shown.roles):
        x = left + index * (_WIDTH + _GAP)
        body.append(svg.text(x + _WIDTH / 2, y + 14, role, "head", anchor="middle"))
        body.append(svg.box("memory", x, y + 24, _WIDTH, _ROW - 6))
        body.append(svg.text(x + _WIDTH / 2, y + 38, "memory: what it writes", "small",
                             anchor="middle"))  # fmt: skip
    y += 24 + _ROW
    for block in reversed(shown.blocks):
        body.append(svg.text(_MARGIN, y + 14, block.overlay, "small"))
        for first, last in _runs(shown, block):
            x = left + first * (_WIDTH + _GAP)
            width = (last - first + 1) * (_WIDTH + _GAP) - _GAP
            body += _block(block, x, y, width, own=first == last and block.overlay == "node")
        y += _ROW
    return body, y, needed


def _block(block: Block, x: int, y: int, width: int, *, own: bool) -> Iterator[str]:
    yield svg.box("own" if own else "layer", x, y, width, _ROW - 6)
    yield svg.text(x + width / 2, y + 14, block.name, "small", anchor="middle")


def _runs(shown: Graph, block: Block) -> Iterator[tuple[int, int]]:
    """Yield columns from-to that one rectangle covers; each VM has its own files."""
    having = [index for index, role in enumerate(shown.roles) if role in block.roles]
    start = 0
    for position, index in enumerate(having):
        following = having[position + 1] if position + 1 < len(having) else None
        if following != index + 1 or block.overlay == "node":
            yield having[start], index
            start = position + 1


def _layer_sentences(shown: Graph) -> Iterator[str]:
    for role in shown.roles:
        names = [block.name for block in shown.blocks if role in block.roles]
        yield f"Layers of {role}, lowest first: {', '.join(names)}."
