"""Building layers: entries are staged in a tree, the tree becomes an EROFS image in the cache.

<cache>/layers/<key>.erofs   the image, shared by every VM of every cluster
<cache>/layers/<key>.json    whose it is, for listings, and its sum (see `whole`); its time of
                             change is that of the last use
<cache>/locks/layer-<key>.lock   held by the one that makes or removes it, shared by users of it
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

from attrs import define, field, frozen
from filelock import FileLock

from xk8s.artifact_keys import artifact_key
from xk8s.build.artifacts.attempt import Resolved
from xk8s.build.layers import whole
from xk8s.build.layers.erofs_write import is_padded, make_image, pad
from xk8s.errors import BuildError
from xk8s.overlay import Directory, Entry, File, Layer, Symlink, Take
from xk8s.progress import Progress, Silent
from xk8s.util.digest import canonical, sha256_text
from xk8s.util.disk_full import disk_guard
from xk8s.util.files import absolute, copy_file, copy_tree, put_in_place, remove_tree
from xk8s.util.guest_paths import guest_path
from xk8s.util.intact import forget_compared
from xk8s.util.jobs import Jobs, kill_marked
from xk8s.util.log import get_logger
from xk8s.util.paths import cache_lock

log = get_logger(__name__)

FORMAT = 2
"""Raise it when the same layer would become another image."""


LEFTOVER = ".tmp-"
"""Before the key, in the name of a directory in which an image is made."""


def layers_dir(cache_dir: Path) -> Path:
    """Return the directory of the images."""
    return cache_dir / "layers"


def image_lock(cache_dir: Path, key: str) -> Path:
    """Return the lock file of an image, with its directory."""
    return cache_lock(cache_dir, f"layer-{key}")


@frozen(kw_only=True)
class BuiltLayer:
    """An image in the cache. ``key`` names its content; ``size`` is in bytes."""

    name: str
    key: str
    path: Path
    size: int


def layer_key(layer: Layer, resolved: Mapping[str, Resolved]) -> str:
    """64 hex digits of what is in the layer, not of its name, order or roles.

    ``resolved`` has its artifacts by key: what is taken counts by its content, so that a new
    build of one program changes the layer of that program alone.
    """
    return sha256_text(
        canonical(
            {
                "format": FORMAT,
                "entries": sorted(
                    (_entry_json(entry, resolved) for entry in layer.entries), key=canonical
                ),
                "image": _entry_json(layer.image, resolved) if layer.image else None,
            }
        )
    )


def _entry_json(entry: Entry, resolved: Mapping[str, Resolved]) -> dict[str, object]:
    where = {"path": str(guest_path(entry.path))}
    match entry:
        case File():
            return {**where, "file": sha256_text(entry.data), "mode": entry.mode}
        case Symlink():
            return {**where, "link": entry.target}
        case Directory():
            return {**where, "directory": entry.mode}
        case Take():
            return {
                **where,
                "take": _content(entry, resolved[artifact_key(entry.artifact)]),
                "member": entry.member,
                "mode": entry.mode,
            }


def _content(take: Take, artifact: Resolved) -> str:
    """Digest of a member, where its permission bits are the entry's; else of all."""
    for origin in artifact.provenance:
        if origin.member == take.member and take.mode is not None:
            return origin.sha256
    return artifact.digest


@define(eq=False)
class LayerStore:
    """The layers below ``cache_dir``; ``jobs`` ends mkfs.erofs when work is cancelled."""

    cache_dir: Path = field(converter=absolute)
    jobs: Jobs = field(factory=Jobs, kw_only=True)

    def build(
        self,
        layer: Layer,
        resolved: Mapping[str, Resolved],
        progress: Progress | None = None,
        *,
        overlay: str = "",
        private: bool = False,
    ) -> BuiltLayer:
        """Return the layer's image, from the cache or made now. ``resolved`` has its artifacts by
        key; ``overlay`` is the owner of the layer. ``private``: a new image is for this user alone.

        Raises `BuildError` (a path twice in the layer, a path through a link, a member that the
        artifact lacks, mkfs.erofs failed) or `HostError` (no mkfs.erofs, disk full).
        """
        progress = progress or Silent()
        missing = [take for take in _takes(layer) if artifact_key(take.artifact) not in resolved]
        if missing:
            raise BuildError(
                f"artifact {missing[0].artifact.name} changed since it was resolved",
                where=f"layer {layer.name}",
                hint="run the command again when your own build has finished",
            )
        try:
            key = layer_key(layer, resolved)
        except ValueError as error:
            raise BuildError(str(error), where=f"layer {layer.name}") from error
        image = self._root / f"{key}.erofs"
        with disk_guard(self.cache_dir):
            while True:
                fields = {"kind": "layer", "name": layer.name, "key": key[:16]}
                why = self._damage(image)
                if why is None:
                    log.info("cache_hit", **fields)
                else:
                    if log.enabled():
                        log.info("cache_miss", **fields, reason=why or self._reason(layer))
                    self._make(layer, resolved, key, image, progress, overlay, private)
                with contextlib.suppress(OSError):
                    os.utime(whole.description(image))
                # A `layers prune` beside us may remove it until it is held: it is made again.
                with contextlib.suppress(FileNotFoundError):
                    size = image.stat().st_size
                    return BuiltLayer(name=layer.name, key=key, path=image, size=size)

    def hold(self, built: BuiltLayer) -> IO[bytes] | None:
        """Keep the image from being removed until what is returned is closed (or this process
        ends); None when it has just been removed.
        """
        with disk_guard(self.cache_dir):
            file = image_lock(self.cache_dir, built.key).open("ab")
        try:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    break
                except BlockingIOError:  # made or removed just now
                    self.jobs.check()
                    time.sleep(0.05)
            if built.path.exists():
                return file
        except BaseException:
            file.close()
            raise
        file.close()
        return None

    def _damage(self, image: Path) -> str | None:
        """Return what is wrong with an image ("": none exists), None for one that is whole."""
        return whole.damage(image) if image.exists() else ""

    def _reason(self, layer: Layer) -> str:
        """Why there is no image of a layer's key, for the log."""
        for record in self._root.glob("[!.]*.json"):
            if whole.read(record).get("name") == layer.name:
                return "its content changed: the cache has other images of this layer"
        return "the cache has no image of this layer"

    @property
    def _root(self) -> Path:
        return layers_dir(self.cache_dir)

    def _make(
        self,
        layer: Layer,
        resolved: Mapping[str, Resolved],
        key: str,
        image: Path,
        progress: Progress,
        overlay: str,
        private: bool,
    ) -> None:
        label = f"layer {layer.name}"
        lock_path = image_lock(self.cache_dir, key)
        self._root.mkdir(exist_ok=True)
        lock = FileLock(lock_path)
        # Once it is there others may hold it for as long as they like.
        self.jobs.acquire(
            lock,
            lambda: progress.item(label, "waiting for another xk8s"),
            needless=lambda: whole.is_compared(image),
        )
        if not lock.is_locked:
            progress.finish(label)
            return
        stage = self._root / f"{LEFTOVER}{key}"
        try:
            why = self._damage(image)
            if why is None:
                return
            if why:
                progress.note(f"{label}: its image in the cache is made again: {why}")
                forget_compared(self.cache_dir)
            kill_marked(str(lock_path))
            remove_tree(stage)
            stage.mkdir()
            new = stage / "image"
            progress.item(label, "building")
            if layer.image is not None:
                ready = _member(layer.image, resolved, label)
                copy_file(ready, new, link=is_padded(ready))
                pad(new)
            else:
                tree = stage / "tree"
                stage_entries(layer.entries, resolved, tree, label=label)
                make_image(tree, new, digest=key, jobs=self.jobs, mark=str(lock_path))
            document = {
                "name": layer.name,
                "overlay": overlay,
                "roles": sorted(layer.roles),
                "artifacts": sorted({take.artifact.name for take in _takes(layer)}),
            }
            if private:
                new.chmod(0o600)
            whole.describe(new, image, document)
            put_in_place(new, image)  # last: where there is an image there is its description
            whole.note_compared(image)
        finally:
            remove_tree(stage)
            lock.release()
            progress.finish(label)


def stage_entries(
    entries: Iterable[Entry], resolved: Mapping[str, Resolved], tree: Path, *, label: str
) -> None:
    """Put entries into the new directory ``tree``, by path. `BuildError` when two entries give
    one path, or a path leads through a symbolic link.
    """
    tree.mkdir()
    tree.chmod(0o755)
    # By path: parents come before what is in them, and the order of entries does not matter.
    for entry in sorted(entries, key=lambda entry: (guest_path(entry.path), type(entry).__name__)):
        target = _prepare(tree, entry, label)
        try:
            match entry:
                case File():
                    with target.open("xb") as stream:
                        stream.write(entry.data)
                    target.chmod(entry.mode)
                case Symlink():
                    target.symlink_to(entry.target)
                case Directory():
                    target.mkdir(exist_ok=True)
                    target.chmod(entry.mode)
                case Take():
                    _take(entry, _member(entry, resolved, label), target)
        except FileExistsError as error:
            raise BuildError(
                f"two entries of the layer are named {entry.path}",
                where=label,
                hint="leave one of them out",
                log=str(error),
            ) from error


def _prepare(tree: Path, entry: Entry, label: str) -> Path:
    """Make the parents of an entry's path, real directories every one."""
    try:
        relative = guest_path(entry.path)
    except ValueError as error:
        raise BuildError(str(error), where=label) from error
    current = tree
    for part in relative.parts[:-1]:
        current /= part
        if current.is_symlink() or (current.exists() and not current.is_dir()):
            raise BuildError(
                f"{entry.path} leads through /{current.relative_to(tree)}, which is not a "
                "directory",
                where=label,
                hint="name the path to which the link points",
            )
        if not current.exists():
            current.mkdir()
            current.chmod(0o755)  # whatever the umask is
    return tree / relative


def _take(entry: Take, source: Path, target: Path) -> None:
    """Put an artifact's file or directory at ``target``, as hard links where possible: the
    image is written from them and 400 MB need not be copied.
    """
    if source.is_dir() and not source.is_symlink():
        if target.is_symlink():
            raise FileExistsError(str(target))
        copy_tree(source, target, link=True)
        if entry.mode is not None:
            target.chmod(entry.mode)
        return
    if target.is_symlink() or target.exists():
        raise FileExistsError(str(target))
    copy_file(source, target, link=True, mode=entry.mode)


def _member(take: Take, resolved: Mapping[str, Resolved], label: str) -> Path:
    artifact = resolved[artifact_key(take.artifact)]
    path = artifact.path / take.member
    there = path.is_symlink() or path.exists()
    if not there or not path.resolve().is_relative_to(artifact.path.resolve()):
        raise BuildError(
            f"artifact {artifact.name} {artifact.version} has no {take.member!r}",
            where=label,
            hint="members are paths relative to the artifact's tree",
        )
    if not stat.S_ISLNK(path.lstat().st_mode):
        return path
    return path.resolve()


def _takes(layer: Layer) -> list[Take]:
    takes = [entry for entry in layer.entries if isinstance(entry, Take)]
    return [layer.image, *takes] if layer.image else takes
