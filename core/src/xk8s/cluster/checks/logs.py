"""Logs of a cluster's nodes, asked for piece by piece: journals, consoles, files of guests.

Each source gives what it has with `first`, and what was added since then with each `more`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from attrs import define, field

from xk8s.cluster.handle import Cluster
from xk8s.errors import MachineError, StateError, UsageError, nearest
from xk8s.util.lines import cut_line
from xk8s.util.units import parse_duration

_CURSOR = "-- cursor: "


class LogSource(Protocol):
    """One log of one node. ``title`` tells it from others; ``dated`` says that its lines begin
    with their time, so that they can be mixed with those of others.
    """

    @property
    def title(self) -> str:
        """Node and log."""

    @property
    def dated(self) -> bool:
        """See above."""

    def first(self) -> str:
        """Return the end of the log so far."""

    def more(self) -> str:
        """Return what has come since the last call."""


def since_argument(text: str) -> str:
    """Return ``5m`` as journalctl takes it, ``-5m``; it understands other texts by itself."""
    return text if parse_duration(text) is None else f"-{text}"


def matcher(pattern: str) -> Callable[[str], bool]:
    """Return a matcher like `journalctl --grep`: lower-case letters ignore case. `UsageError` for a
    bad pattern.
    """
    try:
        found = re.compile(pattern, re.I if pattern == pattern.lower() else 0)
    except re.error as error:
        raise UsageError(f"--grep {pattern!r}: {error}") from error
    return lambda line: found.search(cut_line(line)) is not None


@define(eq=False, kw_only=True)
class Journal:
    """The journal of a node, or of units in it. ``lines`` None is all of it."""

    cluster: Cluster
    node: str
    units: Sequence[str] = ()
    lines: int | None = 200
    since: str = ""
    grep: str = ""
    output: str = "short"
    dated: bool = False
    _cursor: str = ""

    @property
    def title(self) -> str:
        """Node and units."""
        return f"{self.node}: {', '.join(self.units) or 'journal'}"

    def first(self) -> str:
        """Return the end of the journal. `UsageError` when there is no such unit in the node."""
        text = self._ask(self.units)
        if self.units and not text.strip():
            real = [self._real(unit) for unit in self.units]
            if real != list(self.units):
                self.units = real
                text = self._ask(real)
        return text

    def more(self) -> str:
        """Return what has come behind the cursor."""
        return self._ask(self.units, follow=True)

    def _ask(self, units: Sequence[str], *, follow: bool = False) -> str:
        argv = ["journalctl", "--no-pager", f"--output={self.output}", "--show-cursor"]
        argv += [f"--unit={unit}" for unit in units]
        argv += [f"--grep={self.grep}"] if self.grep else []
        if follow and self._cursor:
            argv.append(f"--after-cursor={self._cursor}")
        else:
            argv += [f"--since={since_argument(self.since)}"] if self.since else []
            everything = self.lines is None or follow
            argv.append("--lines=all" if everything else f"--lines={self.lines}")
        text, cursor = self._call(argv)
        self._cursor = cursor or self._cursor
        return text

    def _call(self, argv: list[str]) -> tuple[str, str]:
        """Return what journalctl printed, and its cursor ("" when there were no entries)."""
        result = self.cluster.run(self.node, argv)
        text, said = (stream.decode(errors="replace") for stream in (result.stdout, result.stderr))
        if result.exit_code != 0 and not text and said.strip():
            if "Failed to parse timestamp" in said:
                raise UsageError(
                    f"--since {self.since!r} is not a time",
                    hint="use 30s, 5m, 2h, or what journalctl accepts: '2026-11-23 10:00', today",
                )
            raise MachineError(f"{self.node}: journalctl failed", log=said)
        body, _, cursor = text.rpartition(_CURSOR)
        if not cursor:
            body = text
        return body.replace("-- No entries --\n", ""), cursor.strip()

    def _real(self, unit: str) -> str:
        """Return the unit's own name: of an alias (cri), or without what its name begins with
        (apiserver). `UsageError` when there is none.
        """
        argv = ["systemctl", "show", "--property=Id,LoadState", unit]
        text = self.cluster.run(self.node, argv).stdout.decode(errors="replace")
        shown = dict(line.partition("=")[::2] for line in text.splitlines())
        if shown.get("LoadState") not in (None, "not-found"):
            return shown.get("Id", unit).removesuffix(".service")
        every = units(self.cluster, self.node, stopped=True)
        longer = [name for name in every if name.endswith(f"-{unit}")]
        if len(longer) == 1:
            return longer[0]
        known = units(self.cluster, self.node)
        raise NoUnitError(
            f"{self.node} has no unit {unit!r}",
            hint=f"{nearest(unit, known)}it has: {', '.join(known)}",
        )


class NoUnitError(UsageError):
    """A node has no such unit; another one may."""


def units(cluster: Cluster, node: str, *, stopped: bool = False) -> list[str]:
    """Return names of the services that run, wait or have failed, without ".service"; ``stopped``:
    also of those that do not.
    """
    argv = ["systemctl", "list-units", "--type=service", "--plain", "--no-legend", "--no-pager"]
    argv += ["--all"] if stopped else []
    text = cluster.run(node, argv).stdout.decode(errors="replace")
    lines = [line.split() for line in text.splitlines() if line.strip()]
    names = [fields[0].removesuffix(".service") for fields in lines if "not-found" not in fields]
    return [name for name in names if not name.startswith(("systemd-", "getty", "serial-getty"))]


@define(eq=False, kw_only=True)
class HostFile:
    """A file of the host: what the kernel and init printed, or QEMU."""

    title: str
    path: Path
    lines: int | None = 200
    dated: bool = False
    _offset: int = 0

    def first(self) -> str:
        """Return the end of the file. `StateError` if it does not exist."""
        return last_lines(self._read(), self.lines)

    def more(self) -> str:
        """Return what was added."""
        return self._read()

    def _read(self) -> str:
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError as error:
            raise StateError(f"no log: {error.strerror}", where=str(self.path)) from error
        self._offset += len(data)
        return data.decode(errors="replace")


# The size is taken first: what is added meanwhile belongs to the next call.
_TAIL = """\
size=$(stat -Lc %s "$1") || exit 0
echo "$size"
if [ "$2" -gt "$size" ]; then set -- "$1" 0 "$3"; fi
if [ "$3" = all ]; then set -- "$1" "$2" "+$(($2 + 1))" -c; else set -- "$1" "$2" "$3" -n; fi
head -c "$size" "$1" | tail "$4" "$3"
"""


@define(eq=False, kw_only=True)
class GuestFiles:
    """Files of a node; ``find`` (an argv that prints their paths) is asked again each time: a
    container that starts again has a new one.
    """

    cluster: Cluster
    node: str
    find: Sequence[str]
    lines: int | None = 200
    since: str = ""
    dated: bool = False
    _offsets: dict[str, int] = field(factory=dict)

    @property
    def title(self) -> str:
        """The node: each file has a title of its own."""
        return self.node

    def first(self) -> str:
        """Return the end of each."""
        return self._read(self.lines)

    def more(self) -> str:
        """Return what was added to them."""
        return self._read(None)

    def paths(self) -> list[str]:
        """Return the existing ones, by name."""
        found = self.cluster.run(self.node, self.find).stdout.decode(errors="replace")
        return sorted(found.splitlines())

    def _read(self, lines: int | None) -> str:
        parts = []
        for path in self.paths():
            offset = self._offsets.get(path, 0)
            how = "all" if lines is None else str(lines)
            argv = ["/bin/sh", "-c", _TAIL, "sh", path, str(offset), how]
            text = self.cluster.run(self.node, argv).stdout.decode(errors="replace")
            size, _, body = text.partition("\n")
            if size and not (size.isascii() and size.isdigit() and len(size) < 20):
                raise MachineError(f"{self.node}: {path}: {size[:40]!r} is not its size")
            self._offsets[path] = int(size or 0)
            body = "".join(_later(body.splitlines(keepends=True), self.since))
            if body:
                parts.append(f"==> {self.node}: {path} <==\n{body}")
        return "\n".join(parts)


def _later(lines: Iterable[str], since: str) -> Iterator[str]:
    """Return lines whose time (ISO 8601, at their beginning) is not before ``since``."""
    return (line for line in lines if not since or line >= since)


def last_lines(text: str, count: int | None) -> str:
    """Return the last ``count`` lines, all of it for None."""
    lines = text.splitlines(keepends=True)
    if count is not None:
        lines = lines[-count:] if count else []
    return "".join(lines)


def mixed(texts: Iterable[str]) -> str:
    """Logs whose lines begin with their time, as one in the order of time. Lines that begin with a
    blank belong to the one before.
    """
    entries: list[tuple[str, str]] = []
    for text in texts:
        for line in text.splitlines(keepends=True):
            if line[:1].isspace() and entries:
                key, before = entries[-1]
                entries[-1] = (key, before + line)
            else:
                entries.append((line.split(" ", 1)[0], line))
    return "".join(line for _, line in sorted(entries, key=lambda entry: entry[0]))
