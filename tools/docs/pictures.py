"""Drawings for docs/pictures, of a real plan if possible."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from xk8s.names.request import Request
from xk8s.planning.diagram import Part, graph
from xk8s.planning.diagram_svg import draw
from xk8s.planning.make_plan import make_plan
from xk8s.util import svg

# The container runtime is named: which one is the default depends on the machine.
OVERLAYS = ("kubernetes", "containerd", "coredns", "externalip")

_STAGES = (
    ("names, settings", "what you say"),
    ("resolve", "which overlays"),
    ("plan", "a value"),
    ("artifacts", "fetch or build"),
    ("layers", "EROFS images"),
    ("machines", "QEMU, networks"),
    ("boot", "or restore"),
    ("checks", "of overlays"),
    ("save", "for the next up"),
)
_PURE = 3
"""Number of stages that touch nothing."""
_LEGEND = (
    "Green: touches nothing, can be tested without QEMU, root or network. Blue: acts on the world."
)
_IN_ROW, _WIDTH, _HEIGHT, _GAP, _MARGIN = 3, 190, 48, 40, 16

_LIGHT = """\
.pure { fill: #dafbe1; stroke: #1a7f37; }
.acts { fill: #ddf4ff; stroke: #0969da; }
.way { stroke: #818b98; stroke-width: 1.5; }
.tip { fill: #818b98; }"""
_DARK = """\
  .pure { fill: #12261e; stroke: #3fb950; }
  .acts { fill: #121d2f; stroke: #4493f8; }
  .way { stroke: #656c76; }
  .tip { fill: #656c76; }"""


def pictures() -> Mapping[str, Callable[[], str]]:
    """Map file names below docs/pictures to the functions that draw them."""
    return {
        "cluster.svg": lambda: _planned("networks"),
        "corridor.svg": corridor,
        "layers.svg": lambda: _planned("layers"),
    }


def _planned(part: Part) -> str:
    nothing = Path(os.devnull)  # instead of an xk8s.toml that happens to be here
    plan = make_plan(Request(overlays=OVERLAYS, environment={}, config_file=nothing))
    return draw(graph(plan), (part,))


def corridor() -> str:
    """Draw the rooms that a command passes through, distinguishing those that touch nothing."""
    body: list[str] = []
    bottom = 0
    for number, (name, what) in enumerate(_STAGES):
        row, column = divmod(number, _IN_ROW)
        x = _MARGIN + column * (_WIDTH + _GAP)
        y = _MARGIN + row * (_HEIGHT + _GAP)
        bottom = y + _HEIGHT
        body.append(svg.box("pure" if number < _PURE else "acts", x, y, _WIDTH, _HEIGHT))
        body.append(svg.text(x + _WIDTH / 2, y + 20, name, "head", anchor="middle"))
        body.append(svg.text(x + _WIDTH / 2, y + 37, what, "small", anchor="middle"))
        if number + 1 < len(_STAGES):
            body += _arrow(x, y, last=column == _IN_ROW - 1)
    body.append(svg.text(_MARGIN, bottom + 24, _LEGEND, "small"))
    names = ", ".join(name for name, _ in _STAGES)
    return svg.page(
        2 * _MARGIN + _IN_ROW * (_WIDTH + _GAP) - _GAP,
        bottom + 40,
        title="The corridor",
        description=f"In one direction: {names}. The first {_PURE} touch nothing.",
        light=_LIGHT,
        dark=_DARK,
        body=body,
    )


def _arrow(x: int, y: int, *, last: bool) -> list[str]:
    """Draw an arrow from a box to the next one, which is to the right, or the first of the row
    below.
    """
    if not last:
        tip, middle = x + _WIDTH + _GAP, y + _HEIGHT // 2
        return [
            svg.line("way", x + _WIDTH, middle, tip - 8, middle),
            f'<path class="tip" d="M{tip},{middle} l-9,-5 v10 z"/>',
        ]
    right, left = x + _WIDTH // 2, _MARGIN + _WIDTH // 2
    between, tip = y + _HEIGHT + _GAP // 2, y + _HEIGHT + _GAP
    return [
        svg.line("way", right, y + _HEIGHT, right, between),
        svg.line("way", right, between, left, between),
        svg.line("way", left, between, left, tip - 8),
        f'<path class="tip" d="M{left},{tip} l-5,-9 h10 z"/>',
    ]
