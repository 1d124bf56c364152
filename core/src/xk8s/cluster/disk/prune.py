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
    total = sum(one.size for one in found)
    removed: list[Piece] = []

    def drop(wanted: Iterable[Piece], enough: Callable[[], bool] = lambda: False) -> None:
        nonlocal total
        for one in wanted:
            if enough():
                return
            if one not in removed and (dry_run or _remove(cache, one)):
                removed.append(one)
                total -= one.size

    drop(one for one in found if one.kind in ("leftovers", "downloads") and _stale(one, now))
    automatic = sorted((one for one in found if one.automatic), key=lambda one: one.used)
    size = sum(one.size for one in automatic)
    drop(
        (one for one in automatic if not one.needed_by),
        lambda: size - sum(one.size for one in removed if one.automatic) <= snapshot_size,
    )
    kinds = ("layers", "artifacts", "templates")
    rest = [one for one in found if one.kind in kinds and not one.needed_by]
    drop(one for one in rest if now - one.used > UNUSED)
    if max_size is not None:
        more = [one for one in automatic if not one.needed_by]
        more += [one for one in rest if now - one.used > RECENT or one.kind != "artifacts"]
        drop(sorted(more, key=lambda one: one.used), lambda: total <= max_size)
        if not dry_run and any(one.automatic for one in removed):
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
    total = sum(one.size for one in found)
    gone = []
    for one in found:
        if total <= size:
            break
        if (one.cluster, one.label) == (cluster, label) or one.cluster in running:
            continue
        with contextlib.suppress(StateError, OSError):  # somebody works on that cluster
            takes = one.size
            with (
                contextlib.nullcontext()
                if one.cluster == cluster
                else locked(one.cluster, timeout=0)
            ):
                remove_snapshot(one)
            total -= takes
            gone.append(f"{one.cluster}/{one.label}")
    return tuple(gone)


def _stale(one: Piece, now: float) -> bool:
    # What a killed save left has its cluster's lock to tell; a download may be resumed.
    return one.kind == "leftovers" or now - one.used > RECENT


def _remove(cache: Path, one: Piece) -> bool:
    """Whether it could be: it may be in use by now."""
    try:
        if one.path.parent == cache / "artifacts":
            key = one.path.name.removeprefix(".tmp-")[:64]
            with FileLock(cache / "locks" / f"{key}.lock", timeout=0):
                if key in artifact_users(cache) and one.kind == "artifacts":
                    return False
                remove_tree(one.path)
        elif one.kind == "downloads":
            name = f"download-{one.path.name.partition('.')[0]}.lock"
            with FileLock(cache / "locks" / name, timeout=0):
                remove_tree(one.path)
        elif one.path.parent == templates_dir(cache):
            # Those who start VMs of it hold no lock: they find it, or boot by themselves.
            remove_tree(one.path)
        elif one.kind == "layers":
            keys = {one.path.stem}
            done = layers.prune(cache, lambda: users(cache), keys=keys)
            return any(image.key in keys for image in done.removed)
        else:
            with locked(one.path.parent.name, timeout=0):
                if one.path.parent.name in running_clusters() and one.kind == "snapshots":
                    return False
                remove_tree(one.path)
    except (Timeout, StateError, OSError):
        return False
    return True
