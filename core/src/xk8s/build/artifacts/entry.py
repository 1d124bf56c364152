"""One entry of the cache of artifacts: its description, and whether its tree is whole."""

from __future__ import annotations

import contextlib
from pathlib import Path

from attrs import asdict

from xk8s.artifact_keys import PROVENANCE
from xk8s.build.artifacts.attempt import Resolved
from xk8s.errors import ArtifactError
from xk8s.sources import Provenance
from xk8s.util import intact
from xk8s.util.files import tree_digest


class Damaged(ArtifactError):
    """The description of an entry says nothing."""


def write(entry: Path, resolved: Resolved) -> None:
    """Describe the finished tree in ``entry``, which will be that of ``resolved``."""
    document = {
        "name": resolved.name,
        "version": resolved.version,
        "digest": resolved.digest,
        "members": [asdict(origin) for origin in resolved.provenance],
    }
    (entry / PROVENANCE).write_text(intact.seal(document))
    intact.note_compared(entry / intact.MARK, [entry / "tree"])


def read(entry: Path, key: str) -> Resolved | None:
    """Return what an entry's description says, None when there is no entry. `Damaged`."""
    try:
        document = intact.unseal((entry / PROVENANCE).read_bytes())
        return Resolved(
            name=document["name"],
            version=document["version"],
            key=key,
            path=entry / "tree",
            digest=document["digest"],
            provenance=tuple(Provenance(**member) for member in document["members"]),
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, OSError) and not intact.is_damage(error):
            raise
        raise Damaged(
            f"the cache entry {entry} is damaged: {error}",
            where=str(entry),
            hint="the next command that needs it makes it again",
        ) from error


def look(entry: Path, key: str) -> Resolved | str | None:
    """Return an entry, what is wrong with it in words, or None when there is none. Its tree is read
    once per start of the machine.
    """
    try:
        resolved = read(entry, key)
    except Damaged as error:
        return str(error.__cause__)
    if resolved is None:
        return f"{PROVENANCE} is missing" if entry.exists() else None

    def compare() -> str | None:
        with contextlib.suppress(ValueError):  # a device, a socket
            if tree_digest(resolved.path) == resolved.digest:
                return None
        return "its content does not match its checksum"

    return intact.damage(entry / intact.MARK, [resolved.path], compare) or resolved


def is_compared(entry: Path) -> bool:
    """Return whether `look` need not read its tree."""
    return intact.is_compared(entry / intact.MARK, [entry / "tree"])
