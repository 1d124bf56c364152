"""Names inside a tree of files that others made: followed through links, never out of the tree."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

MAX_NAME = 2048
"""Bytes of a name in an archive: with that of its target it has to fit into Linux's 4096."""
MAX_PART = 255
MAX_DEPTH = 128
_MAX_LINKS = 40


class LeadsOut(Exception):
    """A name leads out of its tree."""


class TooManyLinks(Exception):
    """A name leads nowhere: Linux follows 40 links."""


def safe_name(name: str) -> str:
    """Return what is wrong with a member's name in an archive, or an empty string."""
    path = PurePosixPath(name)
    try:
        length = max((len(os.fsencode(part)) for part in path.parts), default=0)
    except UnicodeEncodeError:
        return "is an unsafe path: no file can have this name"
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        return "is an unsafe path: it leads out of the archive"
    if length > MAX_PART or len(os.fsencode(name)) > MAX_NAME or len(path.parts) > MAX_DEPTH:
        return (
            f"is an unsafe path: longer than {MAX_NAME} bytes, {MAX_PART} in one part, or "
            f"{MAX_DEPTH} parts"
        )
    return ""


def resolve(root: Path, name: str, *, rooted: bool) -> Path:
    """Follow ``name`` below ``root`` through links; return its path, without any. ``rooted``:
    absolute names begin at ``root``, otherwise they lead out. What does not exist is followed by
    its name alone. Raises `LeadsOut`, `TooManyLinks`.
    """
    done: list[str] = []
    parts = _parts(name)
    links = 0
    if name.startswith("/") and not rooted:
        raise LeadsOut("it is absolute")
    while parts:
        part = parts.pop()
        if part == "..":
            if not done:
                raise LeadsOut("it leads above the top")
            done.pop()
            continue
        to = _link(root.joinpath(*done, part))
        if to is None:
            done.append(part)
            continue
        links += 1
        if links > _MAX_LINKS:
            raise TooManyLinks(name)
        if to.startswith("/"):
            if not rooted:
                raise LeadsOut("it is absolute")
            done = []
        parts += _parts(to)
    return root.joinpath(*done)


def find_in(root: Path, wanted: str) -> Path | None:
    """Return the file or directory ``wanted`` of an unpacked tree, following links inside ``root``
    only (absolute ones from ``root``); None if it does not exist.
    """
    try:
        path = resolve(root, wanted, rooted=True)
    except (LeadsOut, TooManyLinks):
        return None
    if not os.path.lexists(path):
        return None
    return path if path != root or wanted in (".", "/") else None


def _link(path: Path) -> str | None:
    try:
        return os.readlink(path)  # noqa: PTH115 - Path would normalise it
    except OSError:  # no link, nothing at all, or no name that can exist
        return None


def _parts(name: str) -> list[str]:
    """The parts of a name, the last one first."""
    return [part for part in reversed(name.split("/")) if part not in ("", ".")]
