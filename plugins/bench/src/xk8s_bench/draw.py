"""The picture of a result: SVG with horizontal bars, from the result alone."""

from __future__ import annotations

from collections.abc import Iterator

from xk8s.util import svg as draw

from xk8s_bench.result import Measure, Result, Series, amount, times

WIDTH = 780
_MARGIN, _LABEL, _BAR, _GAP = 16, 210, 300, 12
_ROW, _BAR_HEIGHT, _HEAD, _FOOT = 26, 14, 34, 34

_LIGHT = """\
.bar { fill: #0969da; }
.first { fill: #818b98; }
.range { stroke: #1f2328; stroke-width: 1; }
.goal { stroke: #d1242f; stroke-width: 1.5; stroke-dasharray: 3 2; }"""
_DARK = """\
  .bar { fill: #4493f8; }
  .first { fill: #656c76; }
  .range { stroke: #f0f6fc; }
  .goal { stroke: #f85149; }"""


def svg(result: Result) -> str:
    """Draw the picture. Its title and description say everything it shows."""
    body: list[str] = []
    y = _MARGIN + 14
    body.append(draw.text(_MARGIN, y, result.summary, "title"))
    y += 10
    for measure in result.measures:
        y += _HEAD
        body.append(draw.text(_MARGIN, y - 12, f"{measure.title} [{measure.unit}]", "head"))
        scale = _BAR / max(max(series.values) for series in measure.series)
        for series in measure.series:
            body += _row(result.title(series), measure, series, y, scale)
            y += _ROW
    y += _FOOT
    body.append(draw.text(_MARGIN, y - 14, _caption(result), "small"))
    return draw.page(
        WIDTH,
        y,
        title=result.summary,
        description=" ".join(_sentences(result)),
        light=_LIGHT,
        dark=_DARK,
        body=body,
    )


def _row(title: str, measure: Measure, series: Series, y: int, scale: float) -> Iterator[str]:
    left = _MARGIN + _LABEL + _GAP
    middle = y + _BAR_HEIGHT / 2
    first = series is measure.series[0]
    yield draw.text(_MARGIN + _LABEL, middle + 4.5, title, "label", anchor="end")
    # A bar that is there is seen, however short.
    width = max(1.5, series.median * scale)
    yield (
        f'<rect class="{"first" if first else "bar"}" x="{left}" y="{y}" width="{width:.1f}" '
        f'height="{_BAR_HEIGHT}" rx="2"/>'
    )
    low, high = min(series.values) * scale, max(series.values) * scale
    if high - low >= 1:
        yield draw.line("range", left + low, middle, left + high, middle)
    if series.goal is not None:
        at = left + series.goal * measure.series[0].median * scale
        # Beyond the longest bar there is no space, and nothing to be worried about.
        if at <= left + _BAR:
            yield draw.line("goal", at, y - 3, at, y + _BAR_HEIGHT + 3)
    yield draw.text(left + _BAR + _GAP, middle + 4.5, _figures(measure, series), "figure")


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
