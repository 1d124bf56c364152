"""Free disk space, least recently used first; anything still referenced is kept.

Safe beside other commands: an image, a download, an artifact that is made and a cluster that is
worked on are locked, and what is locked stays.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from attrs import frozen
from filelock import FileLock, Timeout

from xk8s.build.layers import cache as layers
from xk8s.cluster.disk.references import artifact_users, users
from xk8s.cluster.disk.usage import Piece, pieces, running_clusters
from xk8s.cluster.snapshots.store import list_snapshots
from xk8s.cluster.snapshots.store import remove as remove_snapshot
from xk8s.cluster.state.record import locked
from xk8s.cluster.vms.ram_template import templates_dir
from xk8s.errors import StateError
from xk8s.util.files import remove_tree

UNUSED = 30 * 86400.0
"""Seconds after which images and artifacts that nobody needs go, whatever room there is."""
RECENT = 86400.0
"""Artifacts that were used within so many seconds, and downloads, stay in any case: somebody may be
at work with them."""


@frozen(kw_only=True)
class Pruned:
    """What was (or would be) removed, and the bytes that are left."""

    removed: tuple[Piece, ...]
    left: int


def prune(
    cache: Path, *, snapshot_size: int, max_size: int | None = None, dry_run: bool = False
) -> Pruned:
    """Remove what killed commands left, automatic snapshots beyond ``snapshot_size`` bytes and what
    nobody used for long; then, oldest first, more until all takes at most ``max_size`` bytes.

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
        piece for piece in found if piece.kind in ("leftovers", "downloads") and _stale(piece, now)
    )
    automatic = sorted((piece for piece in found if piece.automatic), key=lambda piece: piece.used)
    size = sum(piece.size for piece in automatic)
    drop(
        (piece for piece in automatic if not piece.needed_by),
        lambda: size - sum(piece.size for piece in removed if piece.automatic) <= snapshot_size,
    )
    kinds = ("layers", "artifacts", "templates")
    rest = [piece for piece in found if piece.kind in kinds and not piece.needed_by]
    drop(piece for piece in rest if now - piece.used > UNUSED)
    if max_size is not None:
        more = [piece for piece in automatic if not piece.needed_by]
        more += [piece for piece in rest if now - piece.used > RECENT or piece.kind != "artifacts"]
        drop(sorted(more, key=lambda piece: piece.used), lambda: total <= max_size)
        if not dry_run and any(piece.automatic for piece in removed):
            # The images of snapshots that went are free now.
            again = [
                piece for piece in pieces(cache) if piece.kind == "layers" and not piece.needed_by
            ]
            drop(again, lambda: total <= max_size)
    return Pruned(removed=tuple(removed), left=total)


def bound_snapshots(cluster: str, label: str, size: int) -> tuple[str, ...]:
    """Remove automatic snapshots, used longest ago first, until all take at most ``size`` bytes;
    the names of what went. For one that just saved ``label`` and has the lock of ``cluster``.
    """
    running = running_clusters() - {cluster}
    found = sorted(
        (snapshot for snapshot in list_snapshots() if snapshot.automatic),
        key=lambda snapshot: snapshot.used,
    )
    total = sum(snapshot.size for snapshot in found)
    gone = []
    for snapshot in found:
        if total <= size:
            break
        if (snapshot.cluster, snapshot.label) == (cluster, label) or snapshot.cluster in running:
            continue
        with contextlib.suppress(StateError, OSError):  # somebody works on that cluster
            takes = snapshot.size
            with (
                contextlib.nullcontext()
                if snapshot.cluster == cluster
                else locked(snapshot.cluster, timeout=0)
            ):
                remove_snapshot(snapshot)
            total -= takes
            gone.append(f"{snapshot.cluster}/{snapshot.label}")
    return tuple(gone)


def _stale(piece: Piece, now: float) -> bool:
    # What a killed save left has its cluster's lock to tell; a download may be resumed.
    return piece.kind == "leftovers" or now - piece.used > RECENT


def _remove(cache: Path, piece: Piece) -> bool:
    """Remove it; return whether that was possible (it may be in use by now)."""
    try:
        if piece.path.parent == cache / "artifacts":
            key = piece.path.name.removeprefix(".tmp-")[:64]
            with FileLock(cache / "locks" / f"{key}.lock", timeout=0):
                if key in artifact_users(cache) and piece.kind == "artifacts":
                    return False
                remove_tree(piece.path)
        elif piece.kind == "downloads":
            name = f"download-{piece.path.name.partition('.')[0]}.lock"
            with FileLock(cache / "locks" / name, timeout=0):
                remove_tree(piece.path)
        elif piece.path.parent == templates_dir(cache):
            # Those who start VMs of it hold no lock: they find it, or boot by themselves.
            remove_tree(piece.path)
        elif piece.kind == "layers":
            keys = {piece.path.stem}
            done = layers.prune(cache, lambda: users(cache), keys=keys)
            return any(image.key in keys for image in done.removed)
        else:
            with locked(piece.path.parent.name, timeout=0):
                if piece.path.parent.name in running_clusters() and piece.kind == "snapshots":
                    return False
                remove_tree(piece.path)
    except (Timeout, StateError, OSError):
        return False
    return True
