"""What an overlay is made from on this machine, and whether any of it was saved again."""

from __future__ import annotations

import fnmatch
import importlib.util
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from attrs import frozen

from xk8s.planning.local_directory import LEFT_OUT, absolute, is_directory
from xk8s.planning.plan import Plan

_LEFT_OUT = (*LEFT_OUT, "__pycache__", "*.pyc")
_SETTLED = 0.2
_POLL = 0.1

Marks = dict[str, tuple[int, int, int]]
"""Path -> (size, time of change, inode)."""


@frozen(kw_only=True)
class WatchedSource:
    """A directory; with ``deep`` all below it counts, else just its own files."""

    path: Path
    deep: bool = True


def sources_of(plan: Plan, names: Iterable[str]) -> tuple[WatchedSource, ...]:
    """Return the sources of the overlays ``names`` (of the whole plan if there are none): a local
    directory, a plugin's package, and directories among its settings.
    """
    wanted = {str(absolute(name)) if is_directory(name) else name for name in names}
    found: dict[Path, WatchedSource] = {}

    def add(path: Path, *, deep: bool) -> None:
        found.setdefault(path, WatchedSource(path=path, deep=deep))

    for planned in plan.overlays:
        name = planned.offer.name
        if wanted and name not in wanted:
            continue
        if is_directory(name):
            add(Path(name), deep=True)
        elif planned.offer.value:
            add(_package(planned.offer.value), deep=True)
    for value in plan.settings:
        if wanted and value.overlay not in wanted:
            continue
        texts = value.value.values() if isinstance(value.value, dict) else (value.value,)
        for text in texts:
            if isinstance(text, str) and "/" in text:
                path = Path(text.partition("@")[0]).expanduser()
                if path.is_dir():
                    # A tree of builds is large; what is taken of it lies at its top. Files of an
                    # image (whose setting is a table) lie anywhere.
                    add(path, deep=isinstance(value.value, dict))
    return tuple(found.values())


def marks(sources: Iterable[WatchedSource]) -> Marks:
    """Return what tells a changed file from an unchanged one."""
    found: Marks = {}
    for source in sources:
        for path in _files(str(source.path), deep=source.deep):
            try:
                status = os.lstat(path)
            except OSError:  # gone meanwhile
                continue
            found[path] = (status.st_size, status.st_mtime_ns, status.st_ino)
    return found


def wait_for_change(
    sources: Iterable[WatchedSource], before: Marks
) -> tuple[Marks, tuple[str, ...]]:
    """Return when something was saved and nothing more for a moment: the new marks, and the paths
    that changed.
    """
    sources = tuple(sources)
    while True:
        time.sleep(_POLL)
        now = marks(sources)
        if now == before:
            continue
        while True:
            time.sleep(_SETTLED)
            later = marks(sources)
            if later == now:
                break
            now = later
        paths = {path for path in {*now, *before} if now.get(path) != before.get(path)}
        if paths:
            return now, tuple(sorted(paths))
        before = now


def _files(directory: str, *, deep: bool) -> Iterator[str]:
    try:
        with os.scandir(directory) as found:
            inside = sorted(found, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in inside:
        if any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in _LEFT_OUT):
            continue
        if not entry.is_dir(follow_symlinks=False):
            yield entry.path
        elif deep:
            yield from _files(entry.path, deep=True)


def _package(value: str) -> Path:
    """Return the directory of an entry point's top package."""
    top = value.partition(":")[0].partition(".")[0]
    spec = importlib.util.find_spec(top)
    origin = spec.origin if spec is not None else None
    assert origin is not None, value
    return Path(origin).parent
