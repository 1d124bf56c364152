"""Paths in the guest, as layers give them."""

from __future__ import annotations

from pathlib import PurePosixPath

MERGED = frozenset({"bin", "sbin", "lib", "lib64"})
"""Symbolic links into /usr in every current distribution: a directory that a layer puts over
one would hide the whole system.
"""


def guest_path(path: str) -> PurePosixPath:
    """Return the path relative to the guest's root. ValueError says what is wrong with it."""
    parts = path.split("/")
    if not path.startswith("/") or "\0" in path:
        raise ValueError(f"{path!r} is not an absolute path")
    if ".." in parts or "." in parts:
        raise ValueError(f"{path!r} has a '.' or '..' in it")
    relative = PurePosixPath(*(part for part in parts if part))
    if len(relative.parts) > 1 and relative.parts[0] in MERGED:
        raise ValueError(f"{path!r}: /{relative.parts[0]} is a link in the guest, use /usr{path}")
    return relative
