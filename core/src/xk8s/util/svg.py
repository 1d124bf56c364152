"""Pieces of SVG pictures that need no program, no script and no font but the reader's.

The same input gives the same bytes. Colours follow the reader's choice of light or dark.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.sax.saxutils import escape

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_LIGHT = """\
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.title { font-size: 15px; font-weight: 600; }
.head { font-weight: 600; }
.small { font-size: 11px; fill: #59636e; }
.ground { fill: #ffffff; }"""
_DARK = """\
  text { fill: #f0f6fc; }
  .small { fill: #9198a1; }
  .ground { fill: #0d1117; }"""


def page(
    width: float,
    height: float,
    *,
    title: str,
    description: str,
    light: str,
    dark: str,
    body: Iterable[str],
) -> str:
    """A whole picture. Title and description say what it shows, for those who cannot see it.
    ``light`` and ``dark`` are the rules of its own classes, beside title, head, small and ground.
    """
    style = f"{_LIGHT}\n{light}\n@media (prefers-color-scheme: dark) {{\n{_DARK}\n{dark}\n}}"
    return "\n".join([
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" role="img" aria-labelledby="title desc">',
        f'<title id="title">{clean(title)}</title>',
        f'<desc id="desc">{clean(description)}</desc>',
        f"<style>\n{style}\n</style>",
        # A ground of its own: where the reader's choice is not known, the page may be dark.
        f'<rect class="ground" width="{width:g}" height="{height:g}" rx="6"/>',
        *body,
        "</svg>",
    ]) + "\n"  # fmt: skip


def text(x: float, y: float, content: str, kind: str, *, anchor: str = "start") -> str:
    """A line of text; ``kind`` is its class, ``y`` its base line."""
    return (
        f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}" '
        f'xml:space="preserve">{clean(content)}</text>'
    )


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """A straight line."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:g}" x2="{x2:.1f}" y2="{y2:g}"/>'


def box(kind: str, x: float, y: float, width: float, height: float) -> str:
    """A rectangle with slightly round corners."""
    return (
        f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4"/>'
    )


def clean(content: str) -> str:
    """Text for XML, which has no way to say most control characters."""
    return escape(_NO_XML.sub("\ufffd", content))
