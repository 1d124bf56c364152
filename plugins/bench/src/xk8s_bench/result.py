"""What a comparison gave: the value, its statistics, and its JSON form (version 1).

The form is described in docs/howto/bench.md. Numbers that follow from others (median, ratio) are in
the JSON for its readers, and are made again when it is read.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cattrs
from attrs import Attribute, field, frozen
from xk8s.errors import UsageError

VERSION = 1
_DIGITS = 3


def _rounded(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(float(value), _DIGITS) for value in values)


def _measured(_instance: object, attribute: Attribute[Any], values: tuple[float, ...]) -> None:
    if not values:
        raise ValueError(f"{attribute.name}: a series without a value")
    for value in values:
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{attribute.name}: {value} was not measured")


@frozen(kw_only=True)
class About:
    """A series: its name, its label in pictures, and in one sentence how it is run."""

    name: str
    title: str
    how: str


@frozen(kw_only=True)
class Series:
    """What was measured of one of the things compared. ``values`` are in the order of the runs,
    to thousandths of the unit; ``goal`` is the greatest ratio to the first series that is wanted,
    or None.
    """

    name: str
    values: tuple[float, ...] = field(converter=_rounded, validator=_measured)
    goal: float | None = None

    @property
    def median(self) -> float:
        """Half of the values are not above it."""
        return statistics.median(self.values)


@frozen(kw_only=True)
class Measure:
    """What was measured of every series, in ``unit`` ("s", "MiB")."""

    name: str
    title: str
    unit: str
    series: tuple[Series, ...] = field()

    @series.validator
    def _some(self, _attribute: object, value: tuple[Series, ...]) -> None:
        if not value:
            raise ValueError("a measure without a series")

    def ratio(self, series: Series) -> float:
        """Ratio of its median to that of the first series."""
        return series.median / self.series[0].median


@frozen(kw_only=True)
class Run:
    """One run, in the order in which they were made. ``load`` is the machine's load average of
    the minute before it.
    """

    series: str
    number: int
    load: float


@frozen(kw_only=True)
class Planned:
    """A plan that was measured: what of it decides how its cluster is."""

    overlays: tuple[str, ...]
    nodes: tuple[str, ...]
    digest: str


@frozen(kw_only=True)
class Result:
    """A comparison that was run to its end. ``made`` is when (UTC, ISO 8601); ``machine`` and
    ``versions`` say where and of what.
    """

    comparison: str
    summary: str
    made: str
    runs: int
    series: tuple[About, ...]
    measures: tuple[Measure, ...] = field()
    order: tuple[Run, ...]
    plans: tuple[Planned, ...]
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    version: int = VERSION

    @measures.validator
    def _described(self, _attribute: object, value: tuple[Measure, ...]) -> None:
        known = {series_.name for series_ in self.series}
        for measure in value:
            for series in measure.series:
                if series.name not in known:
                    raise ValueError(f"no series {series.name!r} is described")
                if len(series.values) != self.runs:
                    raise ValueError(f"{series.name}: {len(series.values)} values, not {self.runs}")

    def title(self, series: Series) -> str:
        """Return its label."""
        return next(series_.title for series_ in self.series if series_.name == series.name)


_converter = cattrs.Converter(forbid_extra_keys=False)


def to_json(result: Result) -> str:
    """Return the result as JSON, the same text for the same result."""
    data = _converter.unstructure(result)
    data = {"version": data.pop("version"), **data}
    for measure, shown in zip(result.measures, data["measures"], strict=True):
        for series, entry in zip(measure.series, shown["series"], strict=True):
            entry["median"] = round(series.median, _DIGITS)
            entry["min"] = round(min(series.values), _DIGITS)
            entry["max"] = round(max(series.values), _DIGITS)
            entry["ratio"] = float(f"{measure.ratio(series):.4g}")
    for run in data["order"]:
        run["load"] = round(run["load"], 2)
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def from_json(text: str, where: str) -> Result:
    """Return the inverse of `to_json`, up to rounding. `UsageError` for anything else."""
    try:
        data = json.loads(text)
        if not isinstance(data, dict) or data.get("version") != VERSION:
            raise ValueError(f"no result of version {VERSION}")
        return _converter.structure(data, Result)
    except (ValueError, TypeError, cattrs.BaseValidationError) as error:
        said = str(error)
        if isinstance(error, cattrs.BaseValidationError):
            said = cattrs.transform_error(error, format_exception=_said)[0]
        raise UsageError(
            f"this is not a result of `xk8s bench`: {said}",
            where=where,
            hint="give the NAME.json that `xk8s bench -o DIR` wrote",
        ) from error


def _said(error: BaseException, kind: type | None) -> str:
    """Our own words for what is wrong; those of cattrs for a field that is missing."""
    return str(error) if type(error) is ValueError else cattrs.v.format_exception(error, kind)


def read(path: Path) -> Result:
    """Return the result in a file; `UsageError` when it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"it cannot be read: {error}", where=str(path)) from error
    return from_json(text, str(path))


# --- how numbers are shown --------------------------------------------------------------


def amount(value: float, unit: str) -> str:
    """Three digits that count, e.g. "0.153 s", "12.4 s", "161 s", "1320 MiB"."""
    return f"{value:.{_places(value, most=_DIGITS)}f} {unit}"


def times(ratio: float) -> str:
    """A ratio for people: "1", "2.40 ×", "51.2 ×", "1/84"."""
    if ratio == 1:
        return "1"
    if ratio <= 1 / 3:
        return f"1/{1 / ratio:.3g}"
    return f"{ratio:.{_places(ratio, most=2)}f} ×"


def _places(value: float, *, most: int) -> int:
    """Return the number of decimals that makes three digits count."""
    return min(most, max(0, 2 - math.floor(math.log10(value))))
