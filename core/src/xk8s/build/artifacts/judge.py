"""What a plugin's function sees of an artifact that it is to judge before it is used."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from xk8s.recipe import Inspection
from xk8s.sources import Provenance
from xk8s.util.files import write_atomic
from xk8s.util.functions import load_function

RECORD = "verified.json"
"""Beside the tree in the cache: which function found it good, and what it had to say."""


def notes_of(function: str, entry: Path) -> tuple[str, ...] | None:
    """Return what the function said of this cache entry; None when it has not judged it yet."""
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
    load_function(function, what="function")(
        Inspection(name=name, version=version, path=tree, provenance=provenance, note=notes.append)
    )
    record = tree.parent / RECORD
    # Remembering is a help, not a duty: what is in the cache can be used when it is full.
    with contextlib.suppress(OSError):
        write_atomic(record, json.dumps({"function": function, "notes": notes}) + "\n")
    return tuple(notes)
