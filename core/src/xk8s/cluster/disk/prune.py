"""Free disk space, least recently used first; anything still referenced is kept.

Safe beside other commands: an image, a download, an artifact that is made and a cluster that is
worked on are locked, and what is locked stays.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from attrs import evolve, frozen
from filelock import FileLock, Timeout

from xk8s.build.artifacts.sources.release import download_lock
from xk8s.build.artifacts.store import entry_key, entry_lock
from xk8s.build.layers import cache as layers
from xk8s.cluster.disk.references import artifact_users, users
from xk8s.cluster.disk.usage import Piece, automatic_snapshots, pieces, running_clusters
from xk8s.cluster.state.record import locked
from xk8s.cluster.vms.ram_template import template_lock, templates_dir
from xk8s.errors import StateError
from xk8s.util.files import remove_tree

UNUSED = 30 * 86400.0
"""Seconds after which images and artifacts that nobody needs go, whatever room there is."""
RECENT = 86400.0
"""Artifacts that were used within so many seconds, and downloads, stay in any case: somebody may be
at work with them."""
KEPT = 3
"""Automatic snapshots of one cluster name: for going back and forth between a few plans."""


@frozen(kw_only=True)
class Pruned:
    """What was (or would be) removed, and the bytes that are left."""

    removed: tuple[Piece, ...]
    left: int


def prune(
    cache: Path, *, snapshot_size: int, max_size: int | None = None, dry_run: bool = False
) -> Pruned:
    """Remove what killed commands left, automatic snapshots beyond `KEPT` of each cluster and
    ``snapshot_size`` bytes in all, and what nobody used for long; then, oldest first, more until
    all takes at most ``max_size`` bytes.

    Named snapshots, those of running clusters, and what VMs or snapshots need stay.
    """
    found = pieces(cache)
    now = time.time()
    total = sum(piece.size for piece in found)
    removed: list[Piece] = []

    def drop(wanted: Iterable[Piece], enough: Callable[[], bool] = lambda: False) -> None:
        nonlocal total
        for piece in wanted:
            if enough():
                return
            if piece not in removed and (dry_run or _remove(cache, piece)):
                removed.append(piece)
                total -= piece.size

    drop(
        piece
        for piece in found
        if piece.kind in ("leftovers", "downloads") and _stale(piece, now) and not piece.needed_by
    )
    drop(_beyond(found, snapshot_size, removed))
    kinds = ("layers", "artifacts", "templates")
    rest = [piece for piece in found if piece.kind in kinds and not piece.needed_by]
    drop(piece for piece in rest if now - piece.used > UNUSED)
    if max_size is not None:
        more = [piece for piece in found if piece.automatic and not piece.needed_by]
        more += [piece for piece in rest if now - piece.used > RECENT or piece.kind != "artifacts"]
        drop(sorted(more, key=lambda piece: piece.used), lambda: total <= max_size)
        if not dry_run and any(piece.automatic for piece in removed):
            # The images of snapshots that went are free now.
            again = [
                piece for piece in pieces(cache) if piece.kind == "layers" and not piece.needed_by
            ]
            drop(again, lambda: total <= max_size)
    if not dry_run:
        _remove_locks(cache, now)
    return Pruned(removed=tuple(removed), left=total)


def bound_snapshots(cluster: str, label: str, size: int) -> tuple[Piece, ...]:
    """Remove automatic snapshots beyond `KEPT` of each cluster and ``size`` bytes in all; what was
    removed. For a command that has just saved ``label`` and holds the lock of ``cluster``: that one
    stays, and older ones of the same cluster may go although it is running.
    """
    removed: list[Piece] = []
    found = [
        evolve(piece, needed_by=()) if piece.cluster == cluster else piece
        for piece in automatic_snapshots()
    ]
    for piece in _beyond(found, size, removed):
        if piece.name != f"{cluster}/{label}" and _remove_snapshot(piece, locked_by_us=cluster):
            removed.append(piece)
    return tuple(removed)


def _beyond(found: Iterable[Piece], size: int, removed: Collection[Piece]) -> Iterator[Piece]:
    """Yield the automatic snapshots to remove, used longest ago first, until each cluster has at
    most `KEPT` and all take at most ``size`` bytes without what was ``removed`` meanwhile.
    """
    automatic = sorted((piece for piece in found if piece.automatic), key=lambda piece: piece.used)
    for piece in automatic:
        left = [other for other in automatic if other not in removed]
        same = [other for other in left if other.cluster == piece.cluster]
        is_beyond = len(same) > KEPT or sum(other.size for other in left) > size
        if is_beyond and not piece.needed_by:
            yield piece


def _stale(piece: Piece, now: float) -> bool:
    # What a killed save left has its cluster's lock to tell; a download may be resumed.
    return piece.kind == "leftovers" or now - piece.used > RECENT


def _remove_locks(cache: Path, now: float) -> None:
    """Remove lock files (all of them are empty) that nobody has made or taken for long."""
    for path in (cache / "locks").glob("*.lock"):
        with contextlib.suppress(OSError, Timeout):
            if now - path.stat().st_mtime > UNUSED:
                with FileLock(path, timeout=0):
                    path.unlink()


def _remove(cache: Path, piece: Piece) -> bool:
    """Remove it; return whether that was possible (it may be in use by now)."""
    try:
        if piece.path.parent == cache / "artifacts":
            key = entry_key(piece.path)
            with FileLock(entry_lock(cache, key), timeout=0):
                if key in artifact_users(cache) and piece.kind == "artifacts":
                    return False
                remove_tree(piece.path)
        elif piece.kind == "downloads":
            with FileLock(download_lock(cache, piece.path.name.partition(".")[0]), timeout=0):
                remove_tree(piece.path)
        elif piece.path.parent == templates_dir(cache):
            # Those who start VMs of it hold no lock: they find it, or boot by themselves.
            with FileLock(template_lock(cache, piece.path.name), timeout=0):
                remove_tree(piece.path)
        elif piece.kind == "layers":
            keys = {piece.path.stem}
            done = layers.prune(cache, lambda: users(cache), keys=keys)
            return any(image.key in keys for image in done.removed)
        else:
            return _remove_snapshot(piece)
    except (Timeout, StateError, OSError):
        return False
    return True


def _remove_snapshot(piece: Piece, *, locked_by_us: str = "") -> bool:
    """Remove a snapshot or what a killed save left, unless somebody works on its cluster."""
    cluster = piece.path.parent.name
    ours = cluster == locked_by_us
    try:
        with contextlib.nullcontext() if ours else locked(cluster, timeout=0):
            if piece.kind == "snapshots" and not ours and cluster in running_clusters():
                return False
            remove_tree(piece.path)
    except (StateError, OSError):
        return False
    return True
