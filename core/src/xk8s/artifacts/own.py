"""`OwnDirectory`: the user's own builds, by member name; what is missing comes from elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from attrs import define, field

from xk8s.artifacts.kit import OWN_DIRECTORY, Kit, Provenance, SourceFailed
from xk8s.artifacts.model import OwnDirectory
from xk8s.artifacts.tree import copy_tree, file_digest, tree_digest
from xk8s.paths import cache_dir


@define(eq=False)
class Fingerprints:
    """What was found out about files, remembered by path, size, time of change and inode in a
    JSON file.
    """

    path: Path
    _known: dict[str, tuple[str, str]] | None = field(default=None, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    def file(self, path: Path) -> str:
        """Hex sha256 of the file's content."""
        return self.about([path])[path]

    def about(
        self,
        paths: Iterable[Path],
        compute: Callable[[Path], str] = file_digest,
        kind: str = "",
    ) -> dict[Path, str]:
        """What ``compute`` says of each file, by default its hex sha256. ``kind`` keeps apart
        what several functions say of one file.
        """
        found: dict[Path, str] = {}
        learned: dict[str, tuple[str, str]] = {}
        for path in paths:
            status = path.stat()
            stamp = f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"
            name = f"{path.absolute()}{kind and '#'}{kind}"
            with self._lock:
                known = self._load().get(name)
            if known is None or known[0] != stamp:
                known = learned[name] = (stamp, compute(path))
            found[path] = known[1]
        if learned:
            with self._lock:
                self._load().update(learned)
                self._save()
        return found

    def _load(self) -> dict[str, tuple[str, str]]:
        if self._known is None:
            try:
                found = json.loads(self.path.read_text())
                self._known = {name: (str(one[0]), str(one[1])) for name, one in found.items()}
            except (OSError, ValueError, AttributeError, IndexError, TypeError):
                self._known = {}  # absent or damaged: only costs reading the files again
        return self._known

    def _save(self) -> None:
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(self._load(), sort_keys=True))
            temporary.replace(self.path)
        except OSError:
            # Remembering is a help, not a duty: a plan must work on a full or read-only disk.
            with contextlib.suppress(OSError):
                temporary.unlink()


_shared: dict[Path, Fingerprints] = {}


def fingerprints() -> Fingerprints:
    """Those of the cache that is in use."""
    place = cache_dir() / "fingerprints.json"
    return _shared.setdefault(place, Fingerprints(place))


def fingerprint(source: OwnDirectory, members: Iterable[str]) -> Mapping[str, str]:
    """Digest of each member that the directory has: content and executability of a file, the
    whole tree of a directory. An absent directory gives nothing.
    """
    remembered = fingerprints()
    root = Path(source.path).expanduser()
    found = {}
    for member in members:
        path = root / member
        if path.is_dir():
            found[member] = tree_digest(path)
        elif path.is_file():
            found[member] = f"{remembered.file(path)}:{_mode(path):o}"
    return found


def _mode(path: Path) -> int:
    # Only executability: that a build left files group-writable is not a property of them.
    return 0o755 if path.stat().st_mode & 0o111 else 0o644


def provide(source: OwnDirectory, wanted: frozenset[str], kit: Kit) -> list[Provenance]:
    """Copy the members that are there (links are followed: build trees are full of them)."""
    root = Path(source.path).expanduser()
    if not root.is_dir():
        raise SourceFailed(f"there is no directory {root}")
    given = []
    for member in sorted(wanted):
        path = root / member
        target = kit.out / member
        if path.is_dir():
            before = tree_digest(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_tree(path.resolve(), target, link=False)
            after = tree_digest(target)
        elif path.is_file():
            before = fingerprint(source, [member])[member].partition(":")[0]
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_tree(path.resolve(), target, link=False)
            target.chmod(_mode(path))
            after = file_digest(target)
        else:
            continue
        if before != after:
            raise SourceFailed(f"{path} changed while it was copied: is a build still running?")
        given.append(Provenance(member=member, kind=OWN_DIRECTORY, detail=str(path), sha256=after))
    if not given:
        raise SourceFailed(f"{root} has none of: {', '.join(sorted(wanted))}")
    return given
