"""The picture of a result: SVG with horizontal bars, from the result alone.

No dependency, no script, no font but the reader's; the same result gives the same bytes. Colours
follow the reader's choice of light or dark.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.sax.saxutils import escape

from xk8s.bench.result import Measure, Result, Series, amount, times

WIDTH = 780
_MARGIN, _LABEL, _BAR, _GAP = 16, 210, 300, 12
_ROW, _BAR_HEIGHT, _HEAD, _FOOT = 26, 14, 34, 34
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.title { font-size: 15px; font-weight: 600; }
.head { font-weight: 600; }
.small { font-size: 11px; fill: #59636e; }
.ground { fill: #ffffff; }
.bar { fill: #0969da; }
.first { fill: #818b98; }
.range { stroke: #1f2328; stroke-width: 1; }
.goal { stroke: #d1242f; stroke-width: 1.5; stroke-dasharray: 3 2; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .small { fill: #9198a1; }
  .ground { fill: #0d1117; }
  .bar { fill: #4493f8; }
  .first { fill: #656c76; }
  .range { stroke: #f0f6fc; }
  .goal { stroke: #f85149; }
}"""


def svg(result: Result) -> str:
    """The picture. Its title and description say all that it shows."""
    body: list[str] = []
    y = _MARGIN + 14
    body.append(_text(_MARGIN, y, result.summary, "title"))
    y += 10
    for measure in result.measures:
        y += _HEAD
        body.append(_text(_MARGIN, y - 12, f"{measure.title} [{measure.unit}]", "head"))
        scale = _BAR / max(max(series.values) for series in measure.series)
        for series in measure.series:
            body += _row(result.title(series), measure, series, y, scale)
            y += _ROW
    y += _FOOT
    body.append(_text(_MARGIN, y - 14, _caption(result), "small"))
    return "\n".join([
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" '
        f'viewBox="0 0 {WIDTH} {y}" role="img" aria-labelledby="title desc">',
        f'<title id="title">{_clean(result.summary)}</title>',
        f'<desc id="desc">{_clean(" ".join(_sentences(result)))}</desc>',
        f"<style>\n{_STYLE}\n</style>",
        # A ground of its own: where the reader's choice is not known, the page may be dark.
        f'<rect class="ground" width="{WIDTH}" height="{y}" rx="6"/>',
        *body,
        "</svg>",
    ]) + "\n"  # fmt: skip


def _row(title: str, measure: Measure, series: Series, y: int, scale: float) -> Iterator[str]:
    left = _MARGIN + _LABEL + _GAP
    middle = y + _BAR_HEIGHT / 2
    first = series is measure.series[0]
    yield _text(_MARGIN + _LABEL, middle + 4.5, title, "label", anchor="end")
    # A bar that is there is seen, however short.
    width = max(1.5, series.median * scale)
    yield (
        f'<rect class="{"first" if first else "bar"}" x="{left}" y="{y}" width="{width:.1f}" '
        f'height="{_BAR_HEIGHT}" rx="2"/>'
    )
    low, high = min(series.values) * scale, max(series.values) * scale
    if high - low >= 1:
        yield _line("range", left + low, middle, left + high, middle)
    if series.goal is not None:
        at = left + series.goal * measure.series[0].median * scale
        # Beyond the longest bar there is no room, and nothing to be worried about.
        if at <= left + _BAR:
            yield _line("goal", at, y - 3, at, y + _BAR_HEIGHT + 3)
    yield _text(left + _BAR + _GAP, middle + 4.5, _figures(measure, series), "figure")


def _figures(measure: Measure, series: Series) -> str:
    said = amount(series.median, measure.unit)
    if series is not measure.series[0]:
        said += f"   {times(measure.ratio(series))}"
    if series.goal is not None:
        said += f"   (goal ≤ {times(series.goal)})"
    return said


def _sentences(result: Result) -> Iterator[str]:
    for measure in result.measures:
        for series in measure.series:
            span = " to ".join(amount(end(series.values), measure.unit) for end in (min, max))
            figures = " ".join(_figures(measure, series).split())
            yield f"{measure.title}, {result.title(series)}: {figures}; runs from {span}."
    yield _caption(result)


def _caption(result: Result) -> str:
    runs = "one run" if result.runs == 1 else f"medians of {result.runs} runs"
    spread = "" if result.runs == 1 else ", lines from least to most"
    machine = result.machine
    where = ", ".join(machine[key] for key in ("cpu", "accel") if key in machine)
    return f"{runs}{spread}; {where}; ratios to the first bar are what counts"


def _text(x: float, y: float, text: str, kind: str, *, anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}" '
        f'xml:space="preserve">{_clean(text)}</text>'
    )


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:g}" x2="{x2:.1f}" y2="{y2:g}"/>'


def _clean(text: str) -> str:
    """Text for XML, which has no way to say most control characters."""
    return escape(_NO_XML.sub("\ufffd", text))
