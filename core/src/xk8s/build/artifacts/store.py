"""The cache of artifacts: each is resolved once, by its sources in order, and stays as it is.

    <cache>/artifacts/<key>/tree             the members
    <cache>/artifacts/<key>/provenance.json  where they came from, and the tree's digest; its
                                             time of change is that of the last use
    <cache>/artifacts/<key>/compared         that the tree was compared with its digest since this
                                             machine was started (see `xk8s.util.intact`)
    <cache>/artifacts/<key>/verified.json    that `Artifact.verify` found nothing wrong with it
    <cache>/locks/<key>.lock                 held by the one that makes it

An entry appears by renaming a complete directory: a killed run leaves a ``.tmp-`` one, which
the next holder of the lock removes. One that is damaged is made again, and named.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from attrs import define, evolve, field
from filelock import FileLock

from xk8s.artifact_keys import PROVENANCE, artifact_key
from xk8s.build.artifacts import entry, judge
from xk8s.build.artifacts.acquire import Failure, describe, gather, provider
from xk8s.build.artifacts.attempt import Attempt, Resolved
from xk8s.build.artifacts.lockfile import LockFile
from xk8s.progress import Progress
from xk8s.sources import Artifact, OwnDirectory
from xk8s.util.disk_full import disk_guard
from xk8s.util.files import absolute, put_in_place, remove_tree, tree_digest
from xk8s.util.intact import forget_compared
from xk8s.util.jobs import Jobs, kill_marked
from xk8s.util.log import get_logger
from xk8s.util.paths import cache_lock

__all__ = ["Failure", "Resolved", "Store", "describe", "provider"]

log = get_logger(__name__)


def entry_lock(cache_dir: Path, key: str) -> Path:
    """Return the lock file of an artifact, with its directory."""
    return cache_lock(cache_dir, key)


def entry_key(path: Path) -> str:
    """Return the key of an entry, or of what is being made of one."""
    return path.name.removeprefix(".tmp-")[:64]


@define(eq=False)
class Store:
    """The artifacts below ``cache_dir``. ``lock`` is the `LockFile` they must agree with."""

    cache_dir: Path = field(converter=absolute)
    lock: LockFile | None = field(default=None, kw_only=True)
    jobs: Jobs = field(factory=Jobs, kw_only=True)
    _looked_at: dict[str, Resolved] = field(factory=dict, init=False)

    def cached(self, artifact: Artifact, key: str | None = None) -> Resolved | None:
        """Return the artifact if the cache has it, by its description alone."""
        with contextlib.suppress(entry.Damaged):
            return self.by_key(key or artifact_key(artifact))
        return None

    def whole(self, key: str) -> Resolved | None:
        """Return the entry of that key if the cache has it and nothing is wrong with it. It is read
        once per start of the machine, and looked at once by each command.
        """
        if key in self._looked_at and (self._root / key).exists():
            return self._looked_at[key]
        found = entry.look(self._root / key, key)
        if not isinstance(found, Resolved):
            return None
        self._looked_at[key] = found
        return found

    def read_ahead(self, keys: Collection[str], progress: Progress) -> None:
        """Compare entries that were not since this machine was started, several at a time."""
        due = [key for key in keys if not entry.is_compared(self._root / key)]
        if not any((self._root / key).exists() for key in due):
            return
        with ThreadPoolExecutor() as pool:
            progress.item("compare", "comparing the cache with its checksums, once after a start")
            with disk_guard(self.cache_dir):
                list(pool.map(self.whole, due))
            progress.finish("compare")

    def get(self, artifact: Artifact, progress: Progress, *, offline: bool = False) -> Resolved:
        """Return the artifact, complete, from the cache or made now (its inputs too).

        ``offline`` asks no network. Raises `ArtifactError` naming every source and its
        reason; the error itself when the only source was a recipe that raised one; `HostError`
        when the disk is full.
        """
        from xk8s.build.artifacts.schedule import resolve

        return resolve(self, (artifact,), progress, offline=offline)[artifact_key(artifact)]

    def get_many(
        self,
        artifacts: tuple[Artifact, ...] | list[Artifact],
        progress: Progress,
        *,
        offline: bool = False,
    ) -> Mapping[str, Resolved]:
        """Return all artifacts and their inputs, by key; several are made at a time, each once.

        The first error ends the other work and is raised; so does Ctrl-C, as
        KeyboardInterrupt, when every program has ended and temporaries are gone.
        """
        from xk8s.build.artifacts.schedule import resolve

        return resolve(self, artifacts, progress, offline=offline)

    def by_key(self, key: str) -> Resolved | None:
        """Return the entry of that key if the cache has it; `ArtifactError` when it is damaged."""
        return entry.read(self._root / key, key)

    def place(self, key: str) -> Path:
        """Return where the tree of an artifact is, once it exists."""
        return self._root / key / "tree"

    def list_cached(self) -> tuple[Resolved, ...]:
        """Return what the cache has, by name and version; nothing that is damaged."""
        found = []
        for path in self._root.glob(f"[!.]*/{PROVENANCE}"):
            with contextlib.suppress(entry.Damaged):
                if resolved := self.by_key(path.parent.name):
                    found.append(resolved)
        return tuple(
            sorted(found, key=lambda resolved: (resolved.name, resolved.version, resolved.key))
        )

    def make(
        self,
        artifact: Artifact,
        key: str,
        inputs: Mapping[str, Resolved],
        progress: Progress,
        *,
        offline: bool = False,
        before: Sequence[Failure] = (),
    ) -> Resolved:
        """One artifact whose inputs (by key) exist. Used by `get_many`. ``before`` are
        sources that were asked already.
        """
        with disk_guard(self.cache_dir):
            resolved = self.whole(key)
            known = {"kind": "artifact", "name": artifact.name, "version": artifact.version}
            if resolved is not None:
                log.info("cache_hit", **known, key=key[:16])
            else:
                if log.enabled():
                    log.info("cache_miss", **known, key=key[:16], reason=self._reason(artifact))
                with self._locked(key, artifact, progress) as mark:
                    resolved = self._told(artifact, key, progress) or self._build(
                        artifact, key, inputs, progress, mark, offline, before
                    )
            if self.lock is not None:
                self.lock.check(resolved)
            if artifact.verify:
                self._verified(artifact, resolved, progress)
            with contextlib.suppress(OSError):  # the time of its last use
                os.utime(self._root / key / PROVENANCE)
            return resolved

    @property
    def _root(self) -> Path:
        return self.cache_dir / "artifacts"

    def _reason(self, artifact: Artifact) -> str:
        """Why the cache has no entry for an artifact's key, for the log."""
        others = {other.version for other in self.list_cached() if other.name == artifact.name}
        if artifact.version in others:
            return "its definition, a source or an input changed"
        versions = ", ".join(sorted(others))
        return f"the cache has other versions: {versions}" if versions else "not in the cache"

    def _told(self, artifact: Artifact, key: str, progress: Progress) -> Resolved | None:
        """Return the entry if it is whole; say so if it is damaged. The caller has its lock."""
        found = entry.look(self._root / key, key)
        if isinstance(found, str):
            progress.note(f"{artifact.name}: what the cache has of it is made again: {found}")
            forget_compared(self.cache_dir)
            return None
        return found

    @contextmanager
    def _locked(self, key: str, artifact: Artifact, progress: Progress) -> Iterator[str]:
        path = entry_lock(self.cache_dir, key)
        lock = FileLock(path)
        self.jobs.acquire(
            lock, lambda: progress.item(artifact.name, "waiting for another xk8s that is making it")
        )
        try:
            kill_marked(str(path))
            for stale in self._root.glob(f".tmp-{key}-*"):
                remove_tree(stale)
            yield str(path)
        finally:
            lock.release()

    def _build(
        self,
        artifact: Artifact,
        key: str,
        inputs: Mapping[str, Resolved],
        progress: Progress,
        mark: str,
        offline: bool,
        before: Sequence[Failure],
    ) -> Resolved:
        made = self._root / f".tmp-{key}-0"

        def rest(missing: set[str], failures: Sequence[Failure]) -> Resolved:
            return self._rest(artifact, missing, inputs, progress, offline, failures)

        try:
            tree = made / "tree"
            tree.mkdir(parents=True)
            attempt = Attempt(
                name=artifact.name,
                cache=self.cache_dir,
                out=made,
                work=made,
                mark=mark,
                jobs=self.jobs,
                progress=progress,
                offline=offline,
            )
            provenance = gather(artifact, tree, inputs, attempt, made, rest, before)
            if artifact.verify:
                # Here too, so that what cannot work never enters the cache.
                judge.judge(
                    artifact.verify, name=artifact.name, version=artifact.version, tree=tree,
                    provenance=provenance,
                )  # fmt: skip
            resolved = Resolved(
                name=artifact.name,
                version=artifact.version,
                key=key,
                path=self.place(key),
                digest=tree_digest(tree),
                provenance=provenance,
            )
            entry.write(made, resolved)
            put_in_place(made, self._root / key)
            return resolved
        finally:
            progress.finish(artifact.name)
            remove_tree(made)

    def _rest(
        self,
        artifact: Artifact,
        missing: set[str],
        inputs: Mapping[str, Resolved],
        progress: Progress,
        offline: bool,
        failures: Sequence[Failure],
    ) -> Resolved:
        """Return what the user's own directory lacks, as a cache entry of its own: when the next
        own build comes, the rest is neither fetched nor built again. The whole artifact does as
        well, if it exists.
        """
        sources = tuple(
            source for source in artifact.sources if not isinstance(source, OwnDirectory)
        )
        whole = evolve(artifact, sources=sources, verify="")
        if (cached := self.whole(artifact_key(whole))) is not None:
            if self.lock is not None:
                self.lock.check(cached)
            return cached
        part = evolve(
            whole, members=tuple(member for member in artifact.members if member in missing)
        )
        return self.make(
            part, artifact_key(part), inputs, progress, offline=offline, before=failures
        )

    def _verified(self, artifact: Artifact, resolved: Resolved, progress: Progress) -> None:
        """Judge what an earlier version or another setting left unjudged; tell the notes."""
        notes = judge.notes_of(artifact.verify, resolved.path.parent)
        if notes is None:
            notes = judge.judge(
                artifact.verify, name=resolved.name, version=resolved.version,
                tree=resolved.path, provenance=resolved.provenance,
            )  # fmt: skip
        for note in notes:
            progress.note(f"{artifact.name}: {note}")
