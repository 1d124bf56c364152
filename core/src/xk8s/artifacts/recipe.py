"""`Recipe`: an artifact made by a function of a plugin from other artifacts."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

from xk8s.artifacts.kit import LOCAL, Kit, Provenance
from xk8s.artifacts.model import Recipe
from xk8s.artifacts.process import Jobs
from xk8s.artifacts.tree import content_digest
from xk8s.errors import PluginError
from xk8s.progress import Progress


@frozen(kw_only=True)
class Kitchen:
    """What a recipe's function gets.

    It writes the artifact's members into ``out``; ``work`` is scratch that is removed
    afterwards. ``params`` and ``places`` are the recipe's; ``inputs`` maps the name of each
    input artifact to its tree (read only: it is the cache). ``progress.item(kitchen.name, …)``
    tells how far it is.
    """

    name: str
    out: Path
    work: Path
    params: Mapping[str, Any]
    places: Mapping[str, str]
    inputs: Mapping[str, Path]
    progress: Progress
    offline: bool
    _jobs: Jobs = field(repr=False, alias="jobs")
    _mark: str = field(repr=False, alias="mark")

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        stdout: Path | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> str:
        """Run a program to its end and return its output (standard output and error together),
        or put the standard output into the file ``stdout`` and return "".

        ``env`` is added to ours; ``stdin`` is fed to it; ``on_line`` sees the output line by
        line while it comes. `BuildError` with the last 30 lines when it fails; `HostError` when
        it is not installed or the disk is full. Ctrl-C ends it with all its children.
        """
        return self._jobs.run(
            argv,
            log=self.work / "kitchen.log",
            mark=self._mark,
            cwd=cwd,
            env=env,
            stdin=stdin,
            stdout=stdout,
            on_line=on_line,
        )

    def check(self) -> None:
        """Raise `Interrupted` if the work was cancelled: for long loops without programs."""
        self._jobs.check()


def load(function: str, *, what: str = "recipe function") -> Callable[[Any], object]:
    """The function named "package.module:name"; `PluginError` when there is none."""
    module, _, name = function.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise PluginError(
            f"{what} {function} cannot be loaded: {error}",
            where=function,
            hint="it must be 'package.module:name' of an installed package",
        ) from error
    if not callable(found):
        raise PluginError(f"{what} {function} is no function", where=function)
    loaded: Callable[[Any], object] = found
    return loaded


def provide(source: Recipe, wanted: frozenset[str], kit: Kit) -> list[Provenance]:
    """Call the function; what it raises passes (a recipe has no partial success)."""
    function = load(source.function)
    function(
        Kitchen(
            name=kit.name,
            out=kit.out,
            work=kit.work,
            params=source.params,
            places=source.places,
            inputs={name: resolved.path for name, resolved in kit.inputs.items()},
            progress=kit.progress,
            offline=kit.offline,
            jobs=kit.jobs,
            mark=kit.mark,
        )
    )
    kind, detail = "recipe", f"{source.function} revision {source.revision}"
    if source.places:
        kind, detail = LOCAL, ", ".join(source.places.values())
    return [
        Provenance(member=member, kind=kind, detail=detail, sha256=content_digest(kit.out / member))
        for member in sorted(wanted)
        if (kit.out / member).exists() or (kit.out / member).is_symlink()
    ]
