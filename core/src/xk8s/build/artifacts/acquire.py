"""Asking the sources of an artifact in order, until no member is missing."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from xk8s.artifact_keys import artifact_key
from xk8s.build.artifacts.attempt import Attempt, Resolved
from xk8s.errors import ArtifactError, Interrupted, PluginError, SourceFailed, Xk8sError
from xk8s.sources import (
    Artifact,
    DebPackage,
    GoModule,
    GoRelease,
    OciImage,
    OwnDirectory,
    Provenance,
    Recipe,
    Release,
    Source,
)
from xk8s.util.archives import UnsafeArchive
from xk8s.util.disk_full import DiskError, disk_error
from xk8s.util.files import copy_tree, remove_tree
from xk8s.util.log import get_logger

log = get_logger(__name__)

Provider = Callable[[Any, frozenset[str], Attempt], list[Provenance]]


_MODULES: Mapping[type[Source], str] = {
    OwnDirectory: "own_directory",
    Release: "release",
    GoModule: "go_module",
    GoRelease: "go_release",
    DebPackage: "debian_package",
    OciImage: "oci_image",
    Recipe: "recipe",
}


def provider(source: Source) -> Provider:
    """Return the function that serves this kind of source. Imported on first use: with a full cache
    none is needed, and an HTTP client takes long to import.
    """
    module = importlib.import_module(f"xk8s.build.artifacts.sources.{_MODULES[type(source)]}")
    found: Provider = module.provide
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
        case GoRelease():
            return f"Go module {source.module} {source.version}"
    for name in ("url", "ref", "suite"):
        if found := getattr(source, name, None):
            return f"{kind} {found}"
    return kind


Rest = Callable[[set[str], Sequence[Failure]], Resolved]
"""Missing members and the sources that failed before -> an artifact that has them."""


def gather(
    artifact: Artifact,
    tree: Path,
    inputs: Mapping[str, Resolved],
    attempt: Attempt,
    entry: Path,
    rest: Rest,
    before: Sequence[Failure],
) -> tuple[Provenance, ...]:
    """Put every member into ``tree`` and tell where each came from. ``rest`` gives what the user's
    own directories lack. Errors as `xk8s.build.artifacts.store.Store.get`.
    """
    missing = set(artifact.members)
    found: list[Provenance] = []
    failures: list[Failure] = list(before)
    for number, source in enumerate(artifact.sources):
        wanted = frozenset(missing & _offers(source, artifact))
        if not wanted:
            continue
        if _own_are_asked(artifact, number):
            other = rest(missing, failures)
            for member in missing:
                target = tree / member
                target.parent.mkdir(parents=True, exist_ok=True)
                copy_tree(other.path / member, target, link=True)
            found += [origin for origin in other.provenance if origin.member in missing]
            missing.clear()
            break
        attempt.jobs.check()
        attempt.progress.item(artifact.name, describe(source))
        work = entry / f"work{number}"
        prepared = evolve(
            attempt, out=work / "out", work=work / "work", inputs=_inputs(source, inputs)
        )
        prepared.out.mkdir(parents=True)
        prepared.work.mkdir()
        with log.timed("source_tried", artifact=artifact.name, source=describe(source)) as logged:
            result = _ask(source, wanted, prepared)
            if isinstance(result, Failure):
                logged["error"] = result.reason
        if isinstance(result, Failure):
            failures.append(result)
            attempt.progress.note(f"{artifact.name}: {result}")
        else:
            names = {origin.member for origin in result}
            _adopt(prepared.out, tree, names, everything=isinstance(source, Recipe))
            found += result
            missing -= names
        remove_tree(work)
    if missing:
        raise _incomplete(artifact, sorted(missing), failures)
    return tuple(sorted(found, key=lambda origin: origin.member))


def _own_are_asked(artifact: Artifact, number: int) -> bool:
    """Return whether the sources before this one are the user's own, and the others give members
    only (a recipe may write more, which has to stay together).
    """
    own = [isinstance(source, OwnDirectory) for source in artifact.sources]
    recipe = any(isinstance(source, Recipe) for source in artifact.sources)
    return number > 0 and all(own[:number]) and not any(own[number:]) and not recipe


def _offers(source: Source, artifact: Artifact) -> set[str]:
    """Return the members that a source may have."""
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
    named = {artifact.name: inputs[artifact_key(artifact)] for artifact in source.inputs}
    if len(named) != len(source.inputs):
        raise PluginError(
            f"recipe {source.function} has two inputs of one name: {', '.join(sorted(named))}",
            where=source.function,
        )
    return named


def _ask(source: Source, wanted: frozenset[str], attempt: Attempt) -> list[Provenance] | Failure:
    try:
        return provider(source)(source, wanted, attempt)
    except SourceFailed as error:
        return Failure(source=source, reason=str(error), log=error.log)
    except UnsafeArchive as error:
        return Failure(source=source, reason=str(error))
    except (Interrupted, DiskError):
        raise
    except OSError as error:
        if (known := disk_error(error, attempt.out)) is not None:
            raise known from error  # the next source would not fit either
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
