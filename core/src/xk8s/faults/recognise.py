"""Known faults, recognised in logs by the tables of the core and of the overlays."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from datetime import datetime

from attrs import define, evolve, field, frozen

from xk8s.errors import PluginError
from xk8s.faults.core import CORE_FAULTS
from xk8s.names.registry import Registry
from xk8s.overlay import Fault
from xk8s.util.console_text import without_controls
from xk8s.util.lines import cut_line

FRESH_SECONDS = 45.0
"""A transient fault that was not seen for this long is over."""

SAME_FAULT = 3
"""Number of names (images, pods) shown for one fault."""

_ESCAPED = re.compile(r'(?<!\\)\\+"')
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)")
_MAX_LINE = 240
MAX_SEARCHED = 4096
"""Characters that a pattern sees at a time: guests write the lines, and some patterns take the
square of their length in steps.
"""
_OVERLAP = 1024
"""Of two pieces of a longer line: what is not longer than that is seen as a whole."""


@frozen(kw_only=True)
class Log:
    """A text to search, and its origin ("vm-001: journal")."""

    where: str
    text: str


@frozen(kw_only=True)
class Hint:
    """A recognised fault: what is wrong, what to do, how often and where it was seen, and the last
    line that showed it. ``transient``: it may pass by itself (see `Fault`).
    """

    fault: str
    cause: str
    remedy: str
    transient: bool
    places: tuple[str, ...]
    count: int
    line: str

    def __str__(self) -> str:
        where = ", ".join(self.places)
        times = f" ({self.count} times)" if self.count > 1 else ""
        return f"{self.cause}\n  do: {self.remedy}\n  seen: {where}{times}: {self.line}"


@define(eq=False)
class _Found:
    hint: Hint
    rank: tuple[bool, int]
    places: dict[str, None] = field(factory=dict)


def table(registry: Registry, overlays: Sequence[str]) -> tuple[Fault, ...]:
    """Return the faults to look for in a cluster of these (resolved) overlays, the most specific
    first: those of overlays that build on others before those of the others, then the core's; after
    all of them the transient ones, which are often just another fault seen from above.
    """
    found = []
    for name in reversed(overlays):
        for fault in registry.hooks.faults(name):
            if problem := problem_of(fault):
                raise PluginError(
                    f"overlay {name!r}: xk8s_faults: fault {fault.name!r}: {problem}",
                    where=registry.offer(name).where,
                )
            found.append(fault)
    return tuple(sorted((*found, *CORE_FAULTS), key=lambda fault: fault.transient))


def problem_of(fault: Fault) -> str | None:
    """Return what is wrong with a fault's description, or None."""
    try:
        pattern = re.compile(fault.pattern)
    except re.error as error:
        return f"{fault.pattern!r} is not a regular expression: {error}"
    try:
        words = dict.fromkeys(pattern.groupindex, "")
        _ = fault.cause.format_map(words), fault.remedy.format_map(words)
    except ValueError as error:
        return f"its texts are malformed, or name what is not a group of its pattern: {error}"
    except (KeyError, IndexError) as error:
        return f"its texts name {error}, which is not a group of its pattern"
    if not fault.examples:
        return "it has no example"
    for example in fault.examples:
        if not pattern.search(plain(example)):
            return f"its pattern does not match its example {example!r}"
    return None


def plain(line: str) -> str:
    """Return the line as it was before it was quoted in JSON or logfmt (once or many times),
    without terminal control characters.
    """
    return _ESCAPED.sub('"', without_controls(line))


def recognise(
    faults: Iterable[Fault], logs: Iterable[Log], *, now: float | None = None
) -> tuple[Hint, ...]:
    """Recognise known faults in these logs, each once: certain ones first, then transient ones,
    each in the table's order. A line counts for the first fault that it matches. ``now`` (seconds
    since the epoch) decides whether a transient one is still present.
    """
    patterns = [(fault, re.compile(fault.pattern)) for fault in faults]
    now = time.time() if now is None else now
    found: dict[tuple[str, str, str], _Found] = {}
    for log in logs:
        for line in log.text.splitlines():
            text = plain(cut_line(line))
            for index, (fault, pattern) in enumerate(patterns):
                match = _search(pattern, text)
                if match is None:
                    continue
                if not (fault.transient and _over(text, now)):
                    _count(found, fault, index, match, log.where, text)
                break
    told: dict[str, int] = {}
    hints = []
    for recognised in sorted(found.values(), key=lambda recognised: recognised.rank):
        told[recognised.hint.fault] = told.get(recognised.hint.fault, 0) + 1
        if told[recognised.hint.fault] <= SAME_FAULT:
            hints.append(evolve(recognised.hint, places=tuple(recognised.places)))
    return tuple(hints)


def core_hints(*texts: str) -> tuple[str, ...]:
    """Return what the core alone recognises in consoles and QEMU's output, as texts for an
    error.
    """
    logs = [Log(where="log", text=text) for text in texts]
    return tuple(str(hint) for hint in recognise(CORE_FAULTS, logs))


def _count(
    found: dict[tuple[str, str, str], _Found],
    fault: Fault,
    index: int,
    match: re.Match[str],
    where: str,
    line: str,
) -> None:
    words = {name: value or "" for name, value in match.groupdict().items()}
    cause, remedy = fault.cause.format_map(words), fault.remedy.format_map(words)
    key = (fault.name, cause, remedy)
    recognised = found.get(key)
    if recognised is None:
        hint = Hint(
            fault=fault.name,
            cause=cause,
            remedy=remedy,
            transient=fault.transient,
            places=(),
            count=0,
            line="",
        )
        recognised = found[key] = _Found(hint, (fault.transient, index))
    recognised.places[where] = None
    recognised.hint = evolve(
        recognised.hint, count=recognised.hint.count + 1, line=_short(line.strip(), match)
    )


def _search(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    if len(text) <= MAX_SEARCHED:
        return pattern.search(text)
    for start in range(0, len(text) - _OVERLAP, MAX_SEARCHED - _OVERLAP):
        if match := pattern.search(text, start, start + MAX_SEARCHED):
            return match
    return None


def _short(line: str, match: re.Match[str]) -> str:
    """Return the line, or for a long one the part around the match."""
    if len(line) <= _MAX_LINE:
        return line
    start = max(0, min(match.start() - _MAX_LINE // 4, len(line) - _MAX_LINE))
    cut = line[start : start + _MAX_LINE]
    return ("…" if start else "") + cut + ("…" if start + _MAX_LINE < len(line) else "")


def _over(line: str, now: float) -> bool:
    """Return whether the line says that it is older than `FRESH_SECONDS`."""
    found = _TIME.match(line)
    if found is None:
        return False
    try:
        then = datetime.fromisoformat(found[0].replace(",", "."))
    except ValueError:
        return False
    return now - then.timestamp() > FRESH_SECONDS


__all__ = [
    "MAX_SEARCHED",
    "Hint",
    "Log",
    "core_hints",
    "plain",
    "problem_of",
    "recognise",
    "table",
]
