"""What every source of an artifact is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

from xk8s.artifacts.process import Jobs
from xk8s.progress import Progress

OWN_DIRECTORY = "own directory"
"""`Provenance.kind` of the user's own builds."""

LOCAL = "this machine"
"""The same of what a recipe found at its `places`."""


class SourceFailed(Exception):
    """Why a source could not give what was asked; the next source is tried."""

    def __init__(self, reason: str, *, log: str = "") -> None:
        """``log`` is the tail of the output that matters."""
        super().__init__(reason)
        self.log = log


@frozen(kw_only=True)
class Provenance:
    """Where a member came from: kind of source, detail (URL, module and version, package and
    version), hex sha256 of the member's content (`tree_digest` for a directory).
    """

    member: str
    kind: str
    detail: str
    sha256: str


@frozen(kw_only=True)
class Resolved:
    """A complete artifact in the cache. ``path`` is the tree with its members; ``digest`` is
    the content digest of the tree (`xk8s.artifacts.tree.tree_digest`).
    """

    name: str
    version: str
    key: str
    path: Path
    digest: str
    provenance: tuple[Provenance, ...]


@frozen(kw_only=True)
class Kit:
    """For one try of one source: ``out`` takes its members, ``work`` is scratch (both new and
    empty, removed behind it). ``mark`` goes to `Jobs.run`. ``inputs`` are resolved artifacts
    of a recipe by name.
    """

    name: str
    cache: Path
    out: Path
    work: Path
    mark: str
    jobs: Jobs
    progress: Progress
    offline: bool = False
    inputs: Mapping[str, Resolved] = field(factory=dict)

    def run(self, argv: Sequence[str | Path], **options: Any) -> str:
        """`Jobs.run` with the output in ``work``/log."""
        return self.jobs.run(argv, log=self.work / "log", mark=self.mark, **options)
