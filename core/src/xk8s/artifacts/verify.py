"""What a plugin's function sees of an artifact that it is to judge before it is used."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from attrs import field, frozen

from xk8s.artifacts.kit import Provenance
from xk8s.artifacts.recipe import load

RECORD = "verified.json"
"""Beside the tree in the cache: which function found it good, and what it had to say."""


@frozen(kw_only=True)
class Inspection:
    """A complete artifact: its tree (read only) and where each member came from. ``note`` tells
    the user something that is no error, each time the artifact is used.
    """

    name: str
    version: str
    path: Path
    provenance: tuple[Provenance, ...]
    note: Callable[[str], None] = field(repr=False)

    def origin(self, member: str) -> str:
        """Where a member came from, for people: "own directory /home/you/bin/kubelet"."""
        for one in self.provenance:
            if one.member == member:
                return f"{one.kind} {one.detail}"
        return "nowhere"


def notes_of(function: str, entry: Path) -> tuple[str, ...] | None:
    """What the function said of this cache entry; None when it has not judged it yet."""
    try:
        document = json.loads((entry / RECORD).read_text())
        if document["function"] == function:
            return tuple(str(note) for note in document["notes"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # never judged, or a damaged record: judging again costs little
    return None


def judge(
    function: str, *, name: str, version: str, tree: Path, provenance: tuple[Provenance, ...]
) -> tuple[str, ...]:
    """Call the function and record beside ``tree`` that it found nothing wrong; its notes.
    What it raises passes; then nothing is recorded.
    """
    notes: list[str] = []
    load(function, what="function")(
        Inspection(name=name, version=version, path=tree, provenance=provenance, note=notes.append)
    )
    record = tree.parent / RECORD
    temporary = record.with_name(f".{RECORD}.{os.getpid()}")
    temporary.write_text(json.dumps({"function": function, "notes": notes}) + "\n")
    temporary.replace(record)
    return tuple(notes)
