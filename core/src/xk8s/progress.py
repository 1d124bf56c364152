"""Progress of long-running work: the CLI draws it, tests ignore it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Progress(Protocol):
    """Receiver of progress. All methods may be called from any thread."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Open a step of the corridor, e.g. "build": it is shown with its duration when it ends."""

    def note(self, text: str) -> None:
        """Show a line worth keeping: a choice and its reason, a source that failed, a warning."""

    def item(self, key: str, text: str, *, done: int = 0, total: int = 0) -> None:
        """Show what one concurrent piece of work (a download, a node) is doing; the last text of a
        key replaces the one before. ``done`` of ``total`` units (bytes) if known.
        """

    def finish(self, key: str) -> None:
        """Finish a piece of work: its item is no longer shown."""


class Silent:
    """Progress that nobody watches."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:  # noqa: ARG002
        """Do nothing."""
        yield

    def note(self, text: str) -> None:
        """Do nothing."""

    def item(self, key: str, text: str, *, done: int = 0, total: int = 0) -> None:
        """Do nothing."""

    def finish(self, key: str) -> None:
        """Do nothing."""
