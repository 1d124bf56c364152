"""Results of comparisons: statistics, JSON and back, and their picture."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion
from xk8s.errors import UsageError
from xk8s_bench.draw import svg
from xk8s_bench.result import (
    About,
    Measure,
    Planned,
    Result,
    Run,
    Series,
    amount,
    from_json,
    read,
    times,
    to_json,
)

SVG = "{http://www.w3.org/2000/svg}"


def result() -> Result:
    return Result(
        comparison="start",
        summary="What a user waits for: a cold start against a restored one",
        made="2026-11-24T10:00:00+00:00",
        runs=3,
        series=(
            About(name="cold", title="cold", how="It boots."),
            About(name="restored", title="restored", how="It goes on."),
        ),
        measures=(
            Measure(
                name="answered",
                title="command to an answer",
                unit="s",
                series=(
                    Series(name="cold", values=(161.0, 150.5, 170.25)),
                    Series(name="restored", values=(1.9, 2.1, 1.6), goal=0.02),
                ),
            ),
            Measure(
                name="memory",
                title="memory <of> all & each",
                unit="MiB",
                series=(
                    Series(name="cold", values=(900.0, 903.0, 901.0)),
                    Series(name="restored", values=(450.0, 460.0, 455.0)),
                ),
            ),
        ),
        order=tuple(
            Run(series=name, number=number, load=0.5)
            for number in (1, 2, 3)
            for name in ("cold", "restored")
        ),
        plans=(Planned(overlays=("debian",), nodes=("vm-001",), digest="abc"),),
        machine={"cpu": "2 x Some CPU", "accel": "TCG"},
        versions={"xk8s": "0.1.0"},
    )


def test_the_json_has_what_its_readers_want(snapshot: SnapshotAssertion) -> None:
    assert to_json(result()) == snapshot


def test_the_picture(snapshot: SnapshotAssertion) -> None:
    assert svg(result()) == snapshot


def test_medians_and_ratios() -> None:
    answered = result().measures[0]
    cold, restored = answered.series
    assert (cold.median, restored.median) == (161.0, 1.9)
    assert answered.ratio(cold) == 1
    assert answered.ratio(restored) == 1.9 / 161


def test_json_and_back() -> None:
    assert from_json(to_json(result()), "x") == result()


def test_a_picture_drawn_from_json_is_the_same() -> None:
    assert svg(from_json(to_json(result()), "x")) == svg(result())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda data: data.update(version=2), "version 1"),
        (lambda data: data["measures"][0]["series"][0].update(values=[]), "without a value"),
        (lambda data: data["measures"][0]["series"][0].update(values=[1.0, 2.0]), "2 values"),
        (lambda data: data["measures"][0]["series"][0].update(values=[1, 0, 1]), "not measured"),
        (lambda data: data["measures"][0]["series"][0].update(values=[1, math.nan, 1]), "nan"),
        (lambda data: data["measures"][0]["series"][0].update(name="who"), "'who'"),
        (lambda data: data["measures"][0].update(series=[]), "without a series"),
        (lambda data: data.pop("machine"), "machine"),
        (lambda data: data.update(measures=7), "measures"),
    ],
)
def test_what_is_no_result_is_refused(change: object, why: str, tmp_path: Path) -> None:
    data = json.loads(to_json(result()))
    change(data)  # type: ignore[operator]
    path = tmp_path / "x.json"
    path.write_text(json.dumps(data))
    with pytest.raises(UsageError, match="not a result of `xk8s bench`") as at:
        read(path)
    assert at.value.where == str(path)
    assert why in str(at.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"version": 1}'])
def test_no_json_of_ours(text: str) -> None:
    with pytest.raises(UsageError):
        from_json(text, "x")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read"):
        read(path)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123, "0.012 s"),
        (0.1534, "0.153 s"),
        (1.94, "1.94 s"),
        (9.999, "10.00 s"),
        (12.44, "12.4 s"),
        (161.2, "161 s"),
        (1320.4, "1320 s"),
    ],
)
def test_amounts(value: float, text: str) -> None:
    assert amount(value, "s") == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (1.0, "1"),
        (2.4, "2.40 ×"),
        (51.17, "51.2 ×"),
        (1234.5, "1234 ×"),
        (0.89, "0.89 ×"),
        (1.9 / 161, "1/84.7"),
        (0.02, "1/50"),
    ],
)
def test_ratios(ratio: float, text: str) -> None:
    assert times(ratio) == text


# --- of any values and words ------------------------------------------------------------

VALUES = st.lists(st.floats(min_value=1e-3, max_value=1e7, allow_nan=False), min_size=1, max_size=7)


@st.composite
def results(draw: st.DrawFn) -> Result:
    runs = draw(st.integers(1, 5))
    names = draw(st.lists(st.text(max_size=30), min_size=1, max_size=4, unique=True))
    values = st.lists(
        st.floats(min_value=1e-3, max_value=1e7), min_size=runs, max_size=runs
    ).map(tuple)  # fmt: skip
    series = tuple(
        Series(name=name, values=draw(values), goal=draw(st.none() | st.floats(1e-3, 1e3)))
        for name in names
    )
    measure = Measure(
        name="m", title=draw(st.text()), unit=draw(st.text(max_size=5)), series=series
    )
    return evolve(
        result(),
        summary=draw(st.text()),
        runs=runs,
        series=tuple(About(name=name, title=draw(st.text()), how="") for name in names),
        measures=(measure,),
    )


@given(VALUES)
def test_the_median_lies_between_least_and_most(values: list[float]) -> None:
    series = Series(name="s", values=tuple(values))
    assert min(series.values) <= series.median <= max(series.values)
    backwards = Series(name="s", values=tuple(reversed(values)))
    assert series.median == backwards.median


@given(results())
def test_any_result_is_valid_xml_within_its_size(given_result: Result) -> None:
    root = ET.fromstring(svg(given_result))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    bars = [rect for rect in root.findall(f"{SVG}rect") if rect.attrib["class"] != "ground"]
    assert len(bars) == len(given_result.measures[0].series)
    for bar in bars:
        assert 0 <= float(bar.attrib["x"]) + float(bar.attrib["width"]) <= width
    for text in root.findall(f"{SVG}text"):
        assert 0 <= float(text.attrib["y"]) <= height
    assert root.find(f"{SVG}title") is not None
    assert root.attrib["role"] == "img"


@given(results())
def test_any_result_is_read_back_as_it_is_shown(given_result: Result) -> None:
    text = to_json(given_result)
    assert to_json(from_json(text, "x")) == text


def test_the_description_says_what_the_bars_show() -> None:
    root = ET.fromstring(svg(result()))
    text = root.findtext(f"{SVG}desc") or ""
    assert "command to an answer, restored: 1.90 s 1/84.7 (goal ≤ 1/50)" in text
    assert "runs from 1.60 s to 2.10 s" in text
    assert "medians of 3 runs" in text


def test_colours_for_light_and_dark() -> None:
    assert "prefers-color-scheme: dark" in svg(result())


# --- the project's own results --------------------------------------------------------------

DOCS = Path(__file__).resolve().parents[2] / "docs" / "explanation"
KEPT = sorted((DOCS / "bench").glob("*.json"))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_kept_results_have_their_picture_in_the_docs(path: Path) -> None:
    assert path.with_suffix(".svg").read_text() == svg(read(path)), (
        f"run: ./run xk8s bench --draw {path.relative_to(DOCS.parents[1])}"
    )
    assert f"(bench/{path.stem}.svg)" in (DOCS / "measurements.md").read_text()
