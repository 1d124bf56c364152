"""What every source of an artifact is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

from xk8s.progress import Progress
from xk8s.sources import Provenance
from xk8s.util.jobs import Jobs


@frozen(kw_only=True)
class Resolved:
    """A complete artifact in the cache. ``path`` is the tree with its members; ``digest`` is
    the content digest of the tree (`xk8s.util.files.tree_digest`).
    """

    name: str
    version: str
    key: str
    path: Path
    digest: str
    provenance: tuple[Provenance, ...]


@frozen(kw_only=True)
class Attempt:
    """Context of one try of one source: ``out`` takes its members, ``work`` is scratch (both new
    and empty, removed after it). ``mark`` goes to `Jobs.run`. ``inputs`` are resolved artifacts of
    a recipe by name.
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
