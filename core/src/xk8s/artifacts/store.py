"""The cache of artifacts: each is resolved once, by its sources in order, and stays as it is.

    <cache>/artifacts/<key>/tree             the members
    <cache>/artifacts/<key>/provenance.json  where they came from, and the tree's digest
    <cache>/locks/<key>.lock                 held by the one that makes it

An entry appears by renaming a complete directory: a killed run leaves a ``.tmp-`` one, which
the next holder of the lock removes.
"""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import asdict, define, evolve, field, frozen
from filelock import FileLock

from xk8s.artifacts.keys import artifact_key
from xk8s.artifacts.kit import Kit, Provenance, Resolved, SourceFailed
from xk8s.artifacts.lockfile import LockFile
from xk8s.artifacts.model import (
    Artifact,
    DebPackage,
    GoModule,
    OciImage,
    OwnDirectory,
    Recipe,
    Release,
    Source,
)
from xk8s.artifacts.process import Jobs, kill_marked
from xk8s.artifacts.space import DiskFull, disk_guard, is_full
from xk8s.artifacts.tree import absolute, remove_tree, tree_digest
from xk8s.artifacts.unpack import UnsafeArchive
from xk8s.errors import ArtifactError, Interrupted, PluginError, Xk8sError
from xk8s.progress import Progress

__all__ = ["Failure", "Resolved", "Store", "describe", "provider"]

Provider = Callable[[Any, frozenset[str], Kit], list[Provenance]]


_MODULES: Mapping[type[Source], str] = {
    OwnDirectory: "own",
    Release: "download",
    GoModule: "gomodule",
    DebPackage: "deb",
    OciImage: "oci",
    Recipe: "recipe",
}


def provider(source: Source) -> Provider:
    """The function that serves this kind of source. Imported on first use: with a full cache
    none is needed, and an HTTP client takes long to import.
    """
    found: Provider = importlib.import_module(f"xk8s.artifacts.{_MODULES[type(source)]}").provide
    return found


@frozen(kw_only=True)
class Failure:
    """A source that could not give what it was asked for, and why."""

    source: Source
    reason: str
    log: str = ""
    error: Xk8sError | None = None

    def __str__(self) -> str:
        return f"{describe(self.source)}: {self.reason}"


def describe(source: Source) -> str:
    """A source in a few words, for people."""
    kind = type(source).__name__
    match source:
        case OwnDirectory():
            return f"own directory {source.path}"
        case Recipe():
            return f"recipe {source.function}"
    for name in ("url", "ref", "suite"):
        if found := getattr(source, name, None):
            return f"{kind} {found}"
    return kind


@define(eq=False)
class Store:
    """The artifacts below ``cache_dir``. ``lock`` is the `LockFile` they must agree with."""

    cache_dir: Path = field(converter=absolute)
    lock: LockFile | None = field(default=None, kw_only=True)
    jobs: Jobs = field(factory=Jobs, kw_only=True)

    def cached(self, artifact: Artifact, key: str | None = None) -> Resolved | None:
        """The artifact if the cache has it."""
        return self._read(key or artifact_key(artifact))

    def get(self, artifact: Artifact, progress: Progress, *, offline: bool = False) -> Resolved:
        """The artifact, complete, from the cache or made now (its inputs too).

        ``offline`` asks no network. Raises `ArtifactError` naming every source and its
        reason; the error itself when the only source was a recipe that raised one; `HostError`
        when the disk is full.
        """
        from xk8s.artifacts.graph import resolve

        return resolve(self, (artifact,), progress, offline=offline)[artifact_key(artifact)]

    def get_many(
        self,
        artifacts: tuple[Artifact, ...] | list[Artifact],
        progress: Progress,
        *,
        offline: bool = False,
    ) -> Mapping[str, Resolved]:
        """All artifacts and their inputs, several at a time, each once: by key.

        The first error ends the other work and is raised; so does Ctrl-C, as
        KeyboardInterrupt, when every program has ended and temporaries are gone.
        """
        from xk8s.artifacts.graph import resolve

        return resolve(self, artifacts, progress, offline=offline)

    def list_cached(self) -> tuple[Resolved, ...]:
        """What the cache has, by name and version."""
        found = (self._read(path.parent.name) for path in self._root.glob("*/provenance.json"))
        return tuple(
            sorted((one for one in found if one), key=lambda one: (one.name, one.version, one.key))
        )

    def make(
        self,
        artifact: Artifact,
        key: str,
        inputs: Mapping[str, Resolved],
        progress: Progress,
        *,
        offline: bool = False,
    ) -> Resolved:
        """One artifact whose inputs (by key) are there. Used by `get_many`."""
        with disk_guard(self.cache_dir):
            resolved = self._read(key)
            if resolved is None:
                with self._locked(key, artifact, progress) as mark:
                    resolved = self._read(key) or self._build(
                        artifact, key, inputs, progress, mark, offline
                    )
            if self.lock is not None:
                self.lock.check(resolved)
            return resolved

    @property
    def _root(self) -> Path:
        return self.cache_dir / "artifacts"

    def _read(self, key: str) -> Resolved | None:
        entry = self._root / key
        try:
            document = json.loads((entry / "provenance.json").read_text())
            return Resolved(
                name=document["name"],
                version=document["version"],
                key=key,
                path=entry / "tree",
                digest=document["digest"],
                provenance=tuple(Provenance(**one) for one in document["members"]),
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"the cache entry {entry} is damaged: {error}",
                where=str(entry),
                hint=f"remove it: rm -r {entry}",
            ) from error

    @contextmanager
    def _locked(self, key: str, artifact: Artifact, progress: Progress) -> Iterator[str]:
        path = self.cache_dir / "locks" / f"{key}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        self.jobs.acquire(
            lock, lambda: progress.item(artifact.name, "waiting for another xk8s that makes it")
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
    ) -> Resolved:
        entry = self._root / f".tmp-{key}-0"
        try:
            tree = entry / "tree"
            tree.mkdir(parents=True)
            kit = Kit(
                name=artifact.name,
                cache=self.cache_dir,
                out=entry,
                work=entry,
                mark=mark,
                jobs=self.jobs,
                progress=progress,
                offline=offline,
            )
            provenance = _gather(artifact, tree, inputs, kit, entry)
            resolved = Resolved(
                name=artifact.name,
                version=artifact.version,
                key=key,
                path=self._root / key / "tree",
                digest=tree_digest(tree),
                provenance=provenance,
            )
            document = {
                "name": resolved.name,
                "version": resolved.version,
                "digest": resolved.digest,
                "members": [asdict(one) for one in provenance],
            }
            (entry / "provenance.json").write_text(json.dumps(document, indent=1) + "\n")
            entry.rename(self._root / key)
            return resolved
        finally:
            progress.finish(artifact.name)
            remove_tree(entry)


def _gather(
    artifact: Artifact, tree: Path, inputs: Mapping[str, Resolved], kit: Kit, entry: Path
) -> tuple[Provenance, ...]:
    """Ask the sources in order until no member is missing."""
    missing = set(artifact.members)
    found: list[Provenance] = []
    failures: list[Failure] = []
    for number, source in enumerate(artifact.sources):
        wanted = frozenset(missing & _offers(source, artifact))
        if not wanted:
            continue
        kit.jobs.check()
        kit.progress.item(artifact.name, describe(source))
        work = entry / f"work{number}"
        one = evolve(kit, out=work / "out", work=work / "work", inputs=_inputs(source, inputs))
        one.out.mkdir(parents=True)
        one.work.mkdir()
        result = _ask(source, wanted, one)
        if isinstance(result, Failure):
            failures.append(result)
            kit.progress.note(f"{artifact.name}: {result}")
        else:
            names = {given.member for given in result}
            _adopt(one.out, tree, names, everything=isinstance(source, Recipe))
            found += result
            missing -= names
        remove_tree(work)
    if missing:
        raise _incomplete(artifact, sorted(missing), failures)
    return tuple(sorted(found, key=lambda given: given.member))


def _offers(source: Source, artifact: Artifact) -> set[str]:
    """The members that a source may have."""
    match source:
        case OwnDirectory() | Recipe():
            return set(artifact.members)
    for name in ("members", "packages"):
        if (mapping := getattr(source, name, None)) is not None:
            return set(mapping)
    return {source.member}  # type: ignore[union-attr] # an OciImage: one member


def _inputs(source: Source, inputs: Mapping[str, Resolved]) -> Mapping[str, Resolved]:
    if not isinstance(source, Recipe):
        return {}
    named = {one.name: inputs[artifact_key(one)] for one in source.inputs}
    if len(named) != len(source.inputs):
        raise PluginError(
            f"recipe {source.function} has two inputs of one name: {', '.join(sorted(named))}",
            where=source.function,
        )
    return named


def _ask(source: Source, wanted: frozenset[str], kit: Kit) -> list[Provenance] | Failure:
    try:
        return provider(source)(source, wanted, kit)
    except SourceFailed as error:
        return Failure(source=source, reason=str(error), log=error.log)
    except UnsafeArchive as error:
        return Failure(source=source, reason=str(error))
    except (Interrupted, DiskFull):
        raise
    except OSError as error:
        if is_full(error):
            raise  # `disk_guard` says where; the next source would not fit either
        return Failure(source=source, reason=str(error))
    except Xk8sError as error:
        return Failure(source=source, reason=str(error), log=error.log, error=error)


def _adopt(out: Path, tree: Path, names: set[str], *, everything: bool) -> None:
    if everything:
        shutil.copytree(out, tree, symlinks=True, dirs_exist_ok=True, copy_function=_move)
        return
    for name in names:
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (out / name).rename(target)


def _move(source: str, target: str, **_: object) -> None:
    Path(source).rename(target)


def _incomplete(artifact: Artifact, missing: list[str], failures: list[Failure]) -> Xk8sError:
    logs = [f"--- {failure}\n{failure.log}" for failure in failures if failure.log]
    only = failures[0].error if len(artifact.sources) == 1 and failures else None
    if only is not None:
        only.where = only.where or f"artifact {artifact.name}"
        return only
    reasons = "".join(f"\n  {failure}" for failure in failures)
    silent = [
        describe(source)
        for source in artifact.sources
        if all(failure.source is not source for failure in failures)
    ]
    if silent:
        reasons += f"\n  without the missing ones: {', '.join(silent)}"
    return ArtifactError(
        f"artifact {artifact.name} {artifact.version}: no source has {', '.join(missing)}{reasons}",
        where=f"artifact {artifact.name}",
        hint="build it yourself and name its directory in the overlay's settings "
        "(`xk8s overlays`, `xk8s explain`), or make one of the sources reachable",
        log="\n".join(logs),
    )
