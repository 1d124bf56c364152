"""Differences in a guest's files if its stack of layers is replaced by another one.

Only paths of layers that are not in both stacks are compared, so that a large base costs nothing.
"""

from __future__ import annotations

import difflib
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from attrs import field, frozen

from xk8s.build.layers.erofs_read import ErofsEntry
from xk8s.build.layers.stack import ImageLevel, Stack, StackLevel
from xk8s.overlay import Directory, Entry, File, Symlink

_WITH_ALL = 2
"""Slashes behind a path, see `difference`."""


@frozen(kw_only=True)
class Difference:
    """Changes of a guest: first ``gone`` (files and links) and ``replaced`` (directories in place
    of which there will be a file or link) are removed, then ``emptied`` directories if nothing is
    left in them, deepest first; then ``directories`` (path -> mode) are created, parents first, and
    ``put`` (path -> size in bytes) appear. ``before``: path -> name of the layer that had it.
    """

    gone: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    emptied: tuple[str, ...] = ()
    directories: Mapping[str, int] = field(factory=dict)
    put: Mapping[str, int] = field(factory=dict)
    before: Mapping[str, str] = field(factory=dict)

    @property
    def paths(self) -> tuple[str, ...]:
        """Return everything that changes."""
        found = (*self.gone, *self.replaced, *self.emptied, *self.directories, *self.put)
        return tuple(dict.fromkeys(found))

    @property
    def marks(self) -> tuple[str, ...]:
        """The same, as `difference` takes unsure ones."""
        marks = dict.fromkeys((*self.directories, *self.emptied), "/")
        marks |= dict.fromkeys(self.replaced, "//")
        return tuple(path + marks.get(path, "") for path in self.paths)

    @property
    def size(self) -> int:
        """Bytes of the files that appear."""
        return sum(self.put.values())


def difference(
    old: Stack, new: Stack, *, ready: Collection[str] = (), unsure: Iterable[str] = ()
) -> Difference:
    """Return what changes. Layers named ``ready`` are not compared (they are below, and count where
    others leave them visible); ``unsure`` are paths whose state in the guest is unknown, with a /
    at their end if it may be a directory, and two if one should have been removed with everything
    in it.
    """
    again = {path.rstrip("/"): len(path) - len(path.rstrip("/")) for path in unsure}
    paths = {*_candidates(old, new, ready), *again}
    for path in sorted(paths):
        # Anything but a directory hides what lower layers have below it.
        if _hides(old, path) or _hides(new, path) or again.get(path) == _WITH_ALL:
            levels = (*old.levels, *new.levels)
            seen = (entry.path for level in levels for entry in level.walk())
            below = {seen_path for seen_path in seen if seen_path.startswith(f"{path}/")}
            paths |= below
            if path in again:
                again |= dict.fromkeys(below - {*again}, 0)
    gone: list[str] = []
    replaced: list[str] = []
    emptied: list[str] = []
    directories: dict[str, int] = {}
    put: dict[str, int] = {}
    before: dict[str, str] = {}
    for path in sorted(paths):
        was, now = old.find(path), new.find(path)
        if was is not None:
            before[path] = was[0].name
        if path not in again and _same(was, now):
            continue
        was_directory = again.get(path) or (was is not None and was[1].kind == "directory")
        if now is None:
            (emptied if was_directory else gone).append(path)
        elif now[1].kind == "directory":
            if not was_directory:
                gone.append(path)
            directories[path] = stat.S_IMODE(now[1].mode)
        else:
            if was_directory:
                replaced.append(path)
            put[path] = now[1].size
    return Difference(
        gone=tuple(gone),
        replaced=tuple(replaced),
        emptied=tuple(reversed(emptied)),
        directories=directories,
        put=put,
        before=before,
    )


def entries(new: Stack, paths: Iterable[str], own: Callable[[str], bytes]) -> Iterator[Entry]:
    """What is at these paths, with content; ``own`` has that of a node's own files."""
    for path in sorted(paths):
        there = new.find(path)
        assert there is not None, path
        level, found = there
        mode = stat.S_IMODE(found.mode)
        if found.kind == "link":
            yield Symlink(path=path, target=found.target)
        elif found.kind == "directory":
            yield Directory(path=path, mode=mode)
        else:
            data = level.image.read(path) if isinstance(level, ImageLevel) else own(path)
            yield File(path=path, data=data, mode=mode)


def _candidates(old: Stack, new: Stack, ready: Collection[str]) -> Iterator[str]:
    keys = [level.key for level in old.levels], [level.key for level in new.levels]
    matcher = difflib.SequenceMatcher(None, *keys, autojunk=False)
    for kind, i1, i2, j1, j2 in matcher.get_opcodes():
        if kind == "equal":
            continue
        for level in (*old.levels[i1:i2], *new.levels[j1:j2]):
            if level.name not in ready:
                yield from (entry.path for entry in level.walk())


def _hides(stack: Stack, path: str) -> bool:
    kinds = {found.kind for level in stack.levels if (found := level.find(path))}
    return "directory" in kinds and len(kinds) > 1


def _same(
    was: tuple[StackLevel, ErofsEntry] | None, now: tuple[StackLevel, ErofsEntry] | None
) -> bool:
    if was is None or now is None:
        return was is now
    (old, a), (new, b) = was, now
    if (a.kind, a.mode, a.target) != (b.kind, b.mode, b.target):
        return False
    if a.kind != "file" or old.key == new.key:
        return True
    both = isinstance(old, ImageLevel) and isinstance(new, ImageLevel)
    return not (both and a.size != b.size) and old.identity(a) == new.identity(b)
