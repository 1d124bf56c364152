"""Guests write what patterns are applied to: lines of 1 MiB end in bounded work, and nothing that
they write changes the terminal.

There is no stopwatch: what a pattern is given is bounded, and a test that hangs is ended by the
suite's own limit.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from xk8s.cli import progress
from xk8s.cli.errors import as_text
from xk8s.cluster.checks import logs
from xk8s.cluster.checks.diagnosis import console_logs
from xk8s.errors import CheckFailed
from xk8s.faults import recognise as engine
from xk8s.faults.recognise import MAX_SEARCHED, Log, recognise, table
from xk8s.names.registry import Registry, available
from xk8s.overlay import Fault
from xk8s.util import known_keys, scrub
from xk8s.util.console_text import json_text, without_controls
from xk8s.util.lines import MAX_LINE, MAX_TEXT, cut_line, cut_lines, read_end
from xk8s.util.scrub import Scrubber
from xk8s.verbs import echo, print_json

MIB = 1 << 20
ROOT = Path(__file__).resolve().parents[2]


def ours() -> list[Fault]:
    registry = Registry()
    names = [offer.name for offer in available() if offer.version == version("xk8s")]
    for name in names:
        registry.overlay(name)
    return [*table(registry, names)]


FAULTS = ours()
STUFF = [
    "a.", "a", " ", "\\", '"', '\\"', "0", "-", "a-", "://", "a://b:", "eyJ", "=", "x:", "\x1b[",
    "\x1b[0", "\x1b]", "-----BEGIN ", "-----BEGIN A PRIVATE KEY-----", "password: ", "password\\",
    "--a-", "--token a", "name: ", "name:a", "<a:", "<password ", "Authorization: ",
    "authorization:\\", "Bearer a", "Cookie: ", "-u ", "AKIA", "A1:", "\\'", "'",
]  # fmt: skip


def long(piece: str) -> str:
    return (piece * (MIB // len(piece) + 1))[:MIB]


def words_of(pattern: str) -> list[str]:
    """Literal pieces of a pattern: what begins to match it."""
    plain = re.sub(r"\\[a-zA-Z]", "\0", pattern).replace("\\", "")
    return [word for word in re.split(r"[\0()\[\]|?*+{}^$.]+", plain) if len(word) > 3]


class Watched:
    """A compiled pattern that notes how much it is given."""

    def __init__(self, pattern: Any, seen: list[int]) -> None:
        self._pattern = pattern
        self._seen = seen

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._pattern, name)
        if name not in ("search", "match", "fullmatch", "sub", "finditer", "findall", "split"):
            return method

        def call(*words: Any, **more: Any) -> Any:
            text = words[1] if name == "sub" else words[0]
            if name == "search" and len(words) == 3:
                text = text[words[1] : words[2]]
            breaks = text.split("\n" if isinstance(text, str) else b"\n")
            self._seen.append(max(map(len, breaks)))
            return method(*words, **more)

        return call


class Seen:
    """Lengths of the longest lines that patterns are given: those of the modules, of faults."""

    def __init__(self) -> None:
        self.modules: list[int] = []
        self.faults: list[int] = []


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    seen = Seen()

    def watch(pattern: Any) -> Watched:
        return Watched(pattern, seen.modules)

    count = 0
    for module in (engine, scrub, known_keys):
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern):
                monkeypatch.setattr(module, name, watch(value))
                count += 1
            elif isinstance(value, tuple) and value and isinstance(value[0], re.Pattern):
                monkeypatch.setattr(module, name, tuple(map(watch, value)))
                count += len(value)
    assert count > 20
    real = re.compile
    monkeypatch.setattr(engine.re, "compile", lambda *words: Watched(real(*words), seen.faults))
    return seen


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_pattern_of_a_fault_sees_a_bounded_line(fault: Fault, seen: Seen) -> None:
    pieces = [*STUFF, *fault.examples, *words_of(fault.pattern)]
    for piece in pieces:
        recognise([fault], [Log(where="x", text=long(piece))])
    for start in words_of(fault.pattern):
        for filler in ("a", " ", start[-1]):
            recognise([fault], [Log(where="x", text=start + long(filler))])
    assert seen.faults
    assert max(seen.faults) <= MAX_SEARCHED
    assert max(seen.modules) <= MAX_LINE


def test_all_faults_together_end_on_hostile_logs(seen: Seen) -> None:
    recognise(FAULTS, [Log(where="x", text="\n".join(map(long, STUFF)))])
    assert max(seen.faults) <= MAX_SEARCHED
    assert max(seen.modules) <= MAX_LINE


def test_a_fault_at_the_end_of_a_long_line_is_still_seen() -> None:
    (example,) = next(fault for fault in FAULTS if fault.name == "conntrack-full").examples
    for text in (example + long("a"), long("a ") + example, "a " * 2040 + example + long("a")):
        assert [hint.fault for hint in recognise(FAULTS, [Log(where="x", text=text)])] == [
            "conntrack-full"
        ]


@pytest.mark.parametrize("piece", STUFF)
def test_patterns_of_the_scrubber_see_bounded_lines(piece: str, seen: Seen) -> None:
    scrubber = Scrubber(["-----BEGIN PRIVATE KEY-----\nQUJDREVGR0hJSktMTU5P\n-----END"])
    for text in (long(piece), f"password: {long(piece)}", f'{{"token": "{long(piece)}'):
        assert len(scrubber(text)) <= MAX_LINE + len(text) // 2
    scrubber("\n".join([piece * (2000 // len(piece))] * 100))
    # A block of folded base64 is put together; it is as long as its lines are.
    assert 0 < max(seen.modules) <= 2 * MIB


def test_a_log_of_many_hostile_lines_ends() -> None:
    scrubber = Scrubber()
    for piece in STUFF:
        scrubber("\n".join([piece * (10_000 // len(piece))] * 20))


def test_a_users_own_pattern_sees_bounded_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    real = re.compile
    monkeypatch.setattr(logs.re, "compile", lambda *words: Watched(real(*words), lengths))
    matches = logs.matcher("x.*y")
    monkeypatch.undo()
    assert not matches(long("x"))
    assert matches("x" + long("a") + "y")
    assert max(lengths) <= MAX_LINE


def test_of_a_huge_console_the_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "vm-001.log"
    path.write_bytes(b"begin\n" + b"x" * MAX_TEXT + b"\nend\xff\n")
    assert read_end(path).endswith("\nend\ufffd\n")
    assert len(read_end(path)) == MAX_TEXT
    (log,) = console_logs([path])
    assert len(log.text) == MAX_TEXT


@given(st.text(max_size=200), st.integers(100, 150))
def test_a_cut_line_keeps_its_beginning_and_its_end(line: str, limit: int) -> None:
    cut = cut_line(line, limit)
    assert len(cut) <= max(limit, 0)
    if len(line) <= limit:
        assert cut == line
    else:
        assert "omitted" in cut
        assert cut[-25:] == line[-25:]
        assert line.startswith(cut[: cut.index(" [")] if " [" not in line else "")
    assert cut_lines(f"{line}\n{line}".replace("\n\n", "\n"), 10**6) != ""


# --- the terminal -------------------------------------------------------------------------------

EVIL = "\x1b]0;title\x07\x1b[2J\x1b[31mred\x1b[0m\x9b5mblink\x08\r\x7f\u202eend\ttab"
CLEAN = "red5mblinkend\ttab"
HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def shown_by(call: Callable[[], None]) -> str:
    @click.command()
    def command() -> None:
        call()

    result = CliRunner().invoke(command, [])
    assert result.exit_code == 0, result.exception
    return result.output


def test_what_verbs_show_has_no_control_characters() -> None:
    assert shown_by(lambda: echo(f"check: {EVIL}")) == f"check: {CLEAN}\n"
    text = shown_by(lambda: print_json({"detail": EVIL}))
    assert not HARMFUL.search(text.replace("\u202e", ""))
    assert json.loads(text) == {"detail": EVIL}


def test_no_part_of_an_error_has_control_characters() -> None:
    error = CheckFailed(EVIL, where=EVIL, hint=EVIL, log=f"{EVIL}\n{long('y')}", faults=(EVIL,))
    text = as_text(error, 9)
    assert not HARMFUL.search(text)
    assert text.count(CLEAN) == 5
    assert max(map(len, text.splitlines())) < 3000
    assert not HARMFUL.search(as_text(error, 9, as_json=True).replace("\u202e", ""))
    assert json.loads(as_text(error, 9, as_json=True))["error"]["message"] == EVIL


def test_progress_has_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.renderer() as drawn:
        drawn.note(EVIL)
        drawn.item("vm-001", EVIL)
    assert not HARMFUL.search(capsys.readouterr().err)


@given(st.text())
def test_any_text_is_shown_without_controls(text: str) -> None:
    assert not HARMFUL.search(without_controls(text))
    assert json.loads(json_text(text)) == text


def test_a_sequence_without_end_hides_no_other_lines() -> None:
    assert without_controls("a\x1b]0;b\nc") == "a\nc"
    assert without_controls("a\x1b[0\nc\x1b\nd") == "a0\nc\nd"


def calls(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


def test_every_verb_prints_through_one_function() -> None:
    """`click.echo` prints what a guest wrote as it is."""
    allowed = {"core/src/xk8s/verbs.py": 2, "core/src/xk8s/cli/errors.py": 1}
    wrong = []
    for source in (ROOT / "core" / "src", *sorted((ROOT / "plugins").glob("*/src"))):
        for path in source.rglob("*.py"):
            where = str(path.relative_to(ROOT))
            found = [line for line, call in calls(path) if call in ("click.echo", "click.secho")]
            if len(found) != allowed.get(where, 0):
                wrong.append((where, found))
    assert not wrong
