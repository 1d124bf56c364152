"""Digests of files, remembered by size and times: large files are read once."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from attrs import define, field

from xk8s.util.files import file_digest, write_atomic
from xk8s.util.paths import cache_dir

_MANY = 2000
"""So many files are remembered before those that are gone are forgotten."""


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
        """Return what ``compute`` says of each file, by default its hex sha256. ``kind`` keeps
        apart what several functions say of one file.
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
                self._known = {name: (str(pair[0]), str(pair[1])) for name, pair in found.items()}
            except (OSError, ValueError, AttributeError, IndexError, TypeError):
                self._known = {}  # absent or damaged: only costs reading the files again
        return self._known

    def _save(self) -> None:
        known = self._load()
        if len(known) > _MANY:
            gone = [name for name in known if not Path(name.partition("#")[0]).exists()]
            for name in gone:
                del known[name]
        # Remembering is a help, not a duty: a plan must work on a full or read-only disk.
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.path, json.dumps(known, sort_keys=True))


_shared: dict[Path, Fingerprints] = {}


def fingerprints() -> Fingerprints:
    """Return those of the cache in use."""
    place = cache_dir() / "fingerprints.json"
    return _shared.setdefault(place, Fingerprints(place))
