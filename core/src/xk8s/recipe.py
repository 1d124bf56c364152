"""What functions of plugins receive when they make or verify an artifact."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

from xk8s.progress import Progress
from xk8s.sources import Provenance
from xk8s.util.jobs import Jobs


@frozen(kw_only=True)
class RecipeContext:
    """What a recipe's function receives.

    It writes the artifact's members into ``out``; ``work`` is scratch that is removed
    afterwards. ``params`` and ``places`` are the recipe's; ``inputs`` maps the name of each
    input artifact to its tree (read only: it is the cache). ``progress.item(recipe.name, …)``
    reports how far it is.
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
        """Run a program to its end and return its output (standard output and error together), or
        write the standard output to the file ``stdout`` and return "".

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


@frozen(kw_only=True)
class Inspection:
    """A complete artifact: its tree (read only) and where each member came from. ``note`` tells the
    user something short of an error, each time the artifact is used.
    """

    name: str
    version: str
    path: Path
    provenance: tuple[Provenance, ...]
    note: Callable[[str], None] = field(repr=False)

    def origin(self, member: str) -> str:
        """Return where a member came from, for people: "own directory /home/you/bin/kubelet"."""
        for origin in self.provenance:
            if origin.member == member:
                return f"{origin.kind} {origin.detail}"
        return "nowhere"
