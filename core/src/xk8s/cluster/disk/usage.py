"""What uses disk space, who needs it, and when it was last used."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from attrs import evolve, field, frozen

from xk8s.build.artifacts.sources.release import download_lock
from xk8s.build.artifacts.store import Store, entry_key, entry_lock
from xk8s.build.layers.cache import list_layers
from xk8s.cluster.disk.references import artifact_users, users
from xk8s.cluster.snapshots.store import WORK, Snapshot, list_snapshots
from xk8s.cluster.state.record import list_clusters, lock_file, readable_record
from xk8s.cluster.vms.ram_template import META, template_lock, templates_dir
from xk8s.errors import ArtifactError
from xk8s.util.paths import is_locked, is_name, runtime_dir, snapshots_root, state_dir
from xk8s.util.processes import leftovers

Kind = Literal[
    "snapshots", "artifacts", "layers", "templates", "downloads", "apt", "clusters", "leftovers"
]
KINDS: tuple[Kind, ...] = (
    "snapshots", "artifacts", "layers", "templates", "downloads", "apt", "clusters", "leftovers"
)  # fmt: skip
"""leftovers: what killed commands left; clusters: records, keys and consoles."""


_AT_WORK = ("another xk8s at work",)


@frozen(kw_only=True)
class Piece:
    """Something on the disk. ``size`` in bytes (data that two pieces have counts for the first
    one), ``used`` when it was used last (s since 1970), ``needed_by`` whom it must stay for.
    """

    kind: Kind
    name: str
    path: Path
    size: int
    used: float
    needed_by: tuple[str, ...] = ()
    snapshot: Snapshot | None = field(default=None, repr=False)

    @property
    def automatic(self) -> bool:
        """Whether it is a snapshot that `up` made by itself."""
        return self.snapshot is not None and self.snapshot.automatic

    @property
    def cluster(self) -> str:
        """The name of a snapshot's cluster, "" for everything else."""
        return self.snapshot.cluster if self.snapshot else ""


def running_clusters() -> frozenset[str]:
    """Return the names of clusters with a running VM, or with any process if their record cannot be
    read.
    """
    return frozenset(name for name in list_clusters() if _runs(name))


def _runs(name: str) -> bool:
    record = readable_record(name)
    return bool(leftovers(runtime_dir(name))) if record is None else record.alive


def pieces(cache: Path) -> tuple[Piece, ...]:
    """Return every item in the cache and in this state directory, by kind, the oldest first."""
    return _measured(_all(cache))


def automatic_snapshots() -> tuple[Piece, ...]:
    """Return the snapshots that `up` made by itself, the oldest first."""
    return _measured(piece for piece in _snapshots() if piece.automatic)


def _measured(found: Iterable[Piece]) -> tuple[Piece, ...]:
    seen: set[tuple[int, int]] = set()
    sized = [evolve(piece, size=_size(piece.path, seen)) for piece in found]
    return tuple(sorted(sized, key=lambda piece: (KINDS.index(piece.kind), piece.used, piece.name)))


def _all(cache: Path) -> Iterator[Piece]:
    yield from _snapshots()
    by_whom = artifact_users(cache)
    for path in _entries(cache / "artifacts"):
        yield _artifact(cache, path, by_whom)
    needed = users(cache)
    for layer in list_layers(cache):
        by = needed.get(layer.key, ())
        yield _piece("layers", f"{layer.name} {layer.key[:12]}", layer.path, layer.used, by)
    for path in _entries(templates_dir(cache)):
        if path.name.startswith("."):
            at_work = is_locked(template_lock(cache, path.name))
            yield _unfinished("templates", path.name, path, at_work=at_work)
        else:
            yield _piece("templates", path.name[:12], path, _time(path / META))
    for path in _entries(cache / "downloads"):
        lock = download_lock(cache, path.name.partition(".")[0])
        yield _piece("downloads", path.name, path, needed_by=_AT_WORK if is_locked(lock) else ())
    for path in _entries(cache / "apt"):
        yield _piece("apt", path.name, path)
    running = running_clusters()
    for name in list_clusters():
        by = (f"cluster {name}",) if name in running else ()
        yield _piece("clusters", name, state_dir(name), needed_by=by)


def _snapshots() -> Iterator[Piece]:
    running = running_clusters()
    whole = {snapshot.directory: snapshot for snapshot in list_snapshots()}
    for cluster in _entries(snapshots_root()):
        # Whatever has another name than xk8s gives is somebody else's.
        ours = is_name(cluster.name)
        for path in _entries(cluster) if ours else ():
            if not is_name(path.name.removesuffix(WORK)):
                continue
            name = f"{cluster.name}/{path.name}"
            by = (f"cluster {cluster.name}",) if cluster.name in running else ()
            if saved := whole.get(path):
                piece = _piece("snapshots", name, path, saved.used, by)
                yield evolve(piece, snapshot=saved)
            else:
                at_work = is_locked(lock_file(cluster.name))
                yield _unfinished("snapshots", name, path, at_work=at_work)


def _artifact(cache: Path, path: Path, by_whom: Mapping[str, tuple[str, ...]]) -> Piece:
    if path.name.startswith("."):
        at_work = is_locked(entry_lock(cache, entry_key(path)))
        return _unfinished("artifacts", path.name, path, at_work=at_work)
    name, used = f"(damaged) {path.name[:12]}", _time(path)
    with contextlib.suppress(ArtifactError):
        if resolved := Store(cache).by_key(path.name):
            name, used = f"{resolved.name} {resolved.version}", _time(path / "provenance.json")
    return _piece("artifacts", name, path, used, by_whom.get(path.name, ()))


def _unfinished(kind: Kind, name: str, path: Path, *, at_work: bool) -> Piece:
    """What a command makes just now, or what one that was killed left."""
    if at_work:
        return _piece(kind, f"{name} (being made)", path, needed_by=_AT_WORK)
    return _piece("leftovers", name, path)


def _piece(
    kind: Kind,
    name: str,
    path: Path,
    used: float | None = None,
    needed_by: tuple[str, ...] = (),
) -> Piece:
    used = _time(path) if used is None else used
    return Piece(kind=kind, name=name, path=path, size=0, used=used, needed_by=needed_by)


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _time(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path, seen: set[tuple[int, int]]) -> int:
    """Bytes on the disk of what was not counted yet: images and artifacts are links to one file."""
    total = 0
    stack = [path]
    while stack:
        current = stack.pop()
        with contextlib.suppress(OSError):  # gone meanwhile
            status = current.lstat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            total += status.st_blocks * 512
            if current.is_dir() and not current.is_symlink():
                stack += [Path(entry.path) for entry in os.scandir(current)]
    return total
