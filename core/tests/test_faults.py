"""Recognising known faults: the engine, and that every table describes what it says it does."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest
from xk8s.errors import PluginError
from xk8s.faults.core import CORE_FAULTS
from xk8s.faults.recognise import FRESH_SECONDS, SAME_FAULT, Log, problem_of, recognise, table
from xk8s.names.registry import Registry, available
from xk8s.overlay import Fault


def fault(name: str, pattern: str, **more: object) -> Fault:
    values = {"cause": f"{name} is broken", "remedy": "mend it", "examples": ("x",), **more}
    return Fault(name=name, pattern=pattern, **values)  # type: ignore[arg-type]


def log(*lines: str, where: str = "vm-001: journal") -> Log:
    return Log(where=where, text="\n".join(lines))


def ours() -> list[Fault]:
    registry = Registry()
    names = [offer.name for offer in available() if offer.version == version("xk8s")]
    for name in names:
        registry.overlay(name)
    return [*table(registry, names)]


def test_a_fault_is_told_once_with_all_its_places() -> None:
    seen = [
        log("fine", "disk: no space left", "fine", "disk: no space left again"),
        log("no space left", where="vm-002: journal"),
    ]
    (hint,) = recognise([fault("full", "no space left")], seen)
    assert hint.count == 3
    assert hint.places == ("vm-001: journal", "vm-002: journal")
    assert hint.line == "no space left"
    assert str(hint) == (
        "full is broken\n  do: mend it\n"
        "  seen: vm-001: journal, vm-002: journal (3 times): no space left"
    )


def test_a_line_counts_for_the_most_specific_fault() -> None:
    faults = [fault("image", "cannot pull image .* no space"), fault("full", "no space")]
    names = [hint.fault for hint in recognise(faults, [log("cannot pull image x: no space")])]
    assert names == ["image"]


def test_names_from_the_log_stand_in_the_text() -> None:
    one = fault("image", r"pull (?P<image>\S+)", cause="no {image}", remedy="bake {image}")
    hints = recognise([one], [log(*(f"pull image-{index}" for index in (1, 2, 1)))])
    assert [(hint.cause, hint.remedy, hint.count) for hint in hints] == [
        ("no image-1", "bake image-1", 2),
        ("no image-2", "bake image-2", 1),
    ]
    many = recognise([one], [log(*(f"pull image-{index}" for index in range(50)))])
    assert len(many) == SAME_FAULT


def test_words_of_a_log_are_no_format() -> None:
    one = fault("image", r"pull (?P<image>\S+)", cause="no {image}")
    (hint,) = recognise([one], [log("pull {evil.__class__}{0}")])
    assert hint.cause == "no {evil.__class__}{0}"


def test_quotes_in_json_and_logfmt_are_seen_through() -> None:
    one = fault("plugin", r'plugin "(?P<plugin>[^"]+)"', cause="no {plugin}")
    lines = ('plugin "a"', r'msg="plugin \"a\""', r'{"msg": "err=\\\"plugin \\\\\"a\\\\\"\\\""}')
    (hint,) = recognise([one], [log(*lines)])
    assert (hint.cause, hint.count) == ("no a", 3)


def test_transient_faults_come_last_and_only_while_they_go_on() -> None:
    def at(age: float, text: str) -> str:
        return f"{datetime.fromtimestamp(now - age, UTC).isoformat(timespec='seconds')} vm {text}"

    now = time.time()
    faults = [fault("wait", "not yet", transient=True), fault("sure", "never")]
    text = log(at(5, "not yet"), at(FRESH_SECONDS * 9, "never"))
    assert [hint.fault for hint in recognise(faults, [text], now=now)] == ["sure", "wait"]
    assert recognise(faults, [log(at(FRESH_SECONDS + 5, "not yet"))], now=now) == ()
    # Of a line that does not say its time nobody knows that it is over.
    assert [hint.fault for hint in recognise(faults, [log("not yet")], now=now)] == ["wait"]


def test_a_transient_line_that_is_over_is_not_taken_for_another_fault() -> None:
    faults = [fault("wait", "no CNI yet", transient=True), fault("generic", "CNI")]
    assert recognise(faults, [log("2020-01-01T00:00:00+00:00 vm x: no CNI yet")]) == ()


def test_a_long_line_is_cut_around_what_matters() -> None:
    (hint,) = recognise([fault("full", "no space")], [log("a" * 5000 + "no space" + "b" * 5000)])
    assert len(hint.line) < 300
    assert "no space" in hint.line


@pytest.mark.parametrize(
    ("one", "problem"),
    [
        (fault("a", "("), "not a regular expression"),
        (fault("a", "x", cause="{what}"), "not a group"),
        (fault("a", "x", remedy="{}"), "not a group"),
        (fault("a", "x", examples=()), "no example"),
        (fault("a", "x", examples=("y",)), "does not match its example"),
    ],
)
def test_a_bad_description_is_told(one: Fault, problem: str) -> None:
    assert problem in (problem_of(one) or "")


def test_a_bad_description_names_its_overlay() -> None:
    import types

    from xk8s import hookimpl
    from xk8s.overlay import Overlay

    plugin = types.SimpleNamespace(
        xk8s_overlay=hookimpl(lambda: Overlay(summary="t")),
        xk8s_faults=hookimpl(lambda: [fault("a", "(")]),
    )
    registry = Registry({"t-bad": plugin})
    registry.overlay("t-bad")
    with pytest.raises(PluginError) as at:
        table(registry, ["t-bad"])
    assert at.value.where == "distribution (local)"
    assert "overlay 't-bad'" in str(at.value)


@pytest.mark.parametrize("known", [*CORE_FAULTS], ids=lambda known: known.name)
def test_faults_of_the_core_describe_themselves(known: Fault) -> None:
    assert problem_of(known) is None


def test_every_example_is_recognised_as_its_own_fault_among_all() -> None:
    every = ours()
    assert len(every) > len(CORE_FAULTS)
    assert len({known.name for known in every}) == len(every), "names are unique"
    wrong = {}
    for known in every:
        for example in known.examples:
            found = [hint.fault for hint in recognise(every, [log(example)])]
            if found != [known.name]:
                wrong[example] = (known.name, found)
    assert wrong == {}


ROOT = Path(__file__).resolve().parents[2]
RECORDED = sorted(
    [*ROOT.glob("core/tests/logs/faults/*.txt"), *ROOT.glob("plugins/*/tests/logs/faults/*.txt")]
)
"""Lines that were seen on real VMs when the fault was provoked there; a file per fault."""


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recorded_lines_are_recognised_among_all_faults(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines
    for line in lines:
        # As if it were seen just now: transient ones count then, too.
        at = datetime.fromisoformat(line.split()[0]).timestamp() if line[:2] == "20" else None
        found = [hint.fault for hint in recognise(ours(), [log(line)], now=at)]
        assert found == [path.stem], line


def test_what_a_good_start_says_is_no_fault() -> None:
    """Errors and warnings in the journal of a cluster that passed all its checks."""
    text = (ROOT / "plugins/kubernetes/tests/logs/healthy.txt").read_text()
    assert len(text.splitlines()) > 50
    assert "createTransport failed to connect" in text
    now = datetime.fromisoformat("2026-11-24T06:31:00+00:00").timestamp()
    assert recognise(ours(), [log(*text.splitlines())], now=now) == ()
