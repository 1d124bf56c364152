"""The images in the cache: what there is, and removing what nobody needs."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from attrs import field, frozen
from filelock import FileLock, Timeout

from xk8s.build.layers import whole
from xk8s.build.layers.build import LEFTOVER, image_lock, layers_dir
from xk8s.errors import UsageError, nearest
from xk8s.util.files import remove_tree, walk
from xk8s.util.intact import MARK
from xk8s.util.jobs import kill_marked

_AT_ONCE = 100
"""Each lock is an open file, of which a process has some 1000."""

_LEAST_DIGITS = 4


@frozen(kw_only=True)
class CachedLayer:
    """An image: ``size`` in bytes on disk, ``used`` the time of its last use (s since 1970);
    ``overlay`` and ``roles`` are those it was made for (an older xk8s did not write them down).
    """

    name: str
    key: str
    path: Path
    size: int
    used: float
    overlay: str = ""
    roles: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()


@frozen(kw_only=True)
class Removed:
    """Something that was (or would be) removed: an image, or what a killed build left. ``freed``
    is in bytes of the disk: none when an artifact has the same data.
    """

    name: str
    key: str
    freed: int
    layer: CachedLayer | None = field(default=None, repr=False)


@frozen(kw_only=True)
class PrunedLayers:
    """What was removed, what is ``needed`` (with by whom), and what was used lately."""

    removed: tuple[Removed, ...]
    needed: tuple[tuple[CachedLayer, tuple[str, ...]], ...]
    recent: tuple[CachedLayer, ...]


Users = Callable[[], Mapping[str, tuple[str, ...]]]
"""Says who needs which image, by key, at the time of the call."""


def list_layers(cache_dir: Path) -> tuple[CachedLayer, ...]:
    """List the images, by name, the most recently used first."""
    found = []
    for path in layers_dir(cache_dir).glob("[!.]*.erofs"):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            found.append(_read(path))
    return tuple(sorted(found, key=lambda layer: (layer.name, -layer.used, layer.key)))


def find_layers(cache_dir: Path, name: str) -> tuple[CachedLayer, ...]:
    """Return the images of that name, or whose digest begins so, the one used last first;
    `UsageError` with the nearest name when there is none.
    """
    layers = list_layers(cache_dir)
    found = [layer for layer in layers if layer.name == name]
    if not found and len(name) >= _LEAST_DIGITS:
        found = [layer for layer in layers if layer.key.startswith(name)]
    if not found:
        raise UsageError(
            f"there is no layer {name!r} in the cache",
            where=str(layers_dir(cache_dir)),
            hint=f"{nearest(name, {layer.name for layer in layers})}`xk8s layers` lists them",
        )
    return tuple(found)


def prune(
    cache_dir: Path,
    users: Users,
    *,
    older_than: float = 0.0,
    keys: Collection[str] | None = None,
    dry_run: bool = False,
) -> PrunedLayers:
    """Remove the images that nobody needs and that were not used for ``older_than`` seconds (of
    those with these ``keys``), and what killed builds left.

    Safe beside an `up`: what it holds or makes is locked, and who needs what is asked for while
    we have the locks.
    """
    removed: list[Removed] = []
    needed: list[tuple[CachedLayer, tuple[str, ...]]] = []
    recent: list[CachedLayer] = []
    old: list[CachedLayer] = []
    for layer in list_layers(cache_dir):
        if keys is not None and layer.key not in keys:
            continue
        (recent if time.time() - layer.used < older_than else old).append(layer)
    for start in range(0, len(old), _AT_ONCE):
        with ExitStack() as stack:
            free = []
            for layer in old[start : start + _AT_ONCE]:
                if _lock(stack, cache_dir, layer.key):
                    free.append(layer)
                else:
                    needed.append((layer, ("another xk8s at work",)))
            by_whom = users()
            for layer in free:
                if names := by_whom.get(layer.key):
                    needed.append((layer, names))
                    continue
                removed.append(
                    Removed(name=layer.name, key=layer.key, freed=_freed(layer.path), layer=layer)
                )
                if not dry_run:
                    whole.remove(layer.path)
    removed += _leftovers(cache_dir, dry_run=dry_run)
    return PrunedLayers(removed=tuple(removed), needed=tuple(needed), recent=tuple(recent))


def _leftovers(cache_dir: Path, *, dry_run: bool) -> Iterator[Removed]:
    root = layers_dir(cache_dir)
    beside = itertools.chain(root.glob("[!.]*.json"), root.glob(f"[!.]*.{MARK}"))
    records = [record for record in beside if not record.with_suffix(".erofs").exists()]
    for path in sorted(itertools.chain(root.glob(f"{LEFTOVER}*"), records)):
        key = path.stem.removeprefix(LEFTOVER)
        with ExitStack() as stack:
            if not _lock(stack, cache_dir, key) or not path.exists():
                continue
            if not path.name.startswith(LEFTOVER) and path.with_suffix(".erofs").exists():
                continue
            freed = sum(_freed(file) for file in (walk(path) if path.is_dir() else [path]))
            if not dry_run:
                kill_marked(str(image_lock(cache_dir, key)))
                remove_tree(path)
            yield Removed(name="(left by a killed build)", key=key, freed=freed)


def _lock(stack: ExitStack, cache_dir: Path, key: str) -> bool:
    try:
        stack.enter_context(FileLock(image_lock(cache_dir, key), timeout=0))
    except Timeout:
        return False
    return True


def _freed(path: Path) -> int:
    status = path.lstat()
    return status.st_blocks * 512 if status.st_nlink == 1 else 0


def _read(path: Path) -> CachedLayer:
    size = path.stat().st_blocks * 512  # without the hole at its end
    document = whole.read(path)
    used = (whole.description(path) if document else path).stat().st_mtime
    return CachedLayer(
        name=document.get("name", "(unknown)"),
        key=path.stem,
        path=path,
        size=size,
        used=used,
        overlay=document.get("overlay", ""),
        roles=tuple(document.get("roles", ())),
        artifacts=tuple(document.get("artifacts", ())),
    )
