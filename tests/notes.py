"""Progress whose notes a test reads."""

from __future__ import annotations

from xk8s.progress import Silent


class Notes(Silent):
    """Keeps the notes in ``notes``, and nothing else."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)
