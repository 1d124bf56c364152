"""A full disk as an error that says where, how much is left and what to do."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xk8s.errors import HostError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_TEXT = ("No space left on device", "Disk quota exceeded", "Wrote only ")
"""The last one is what tar says of it."""


class DiskFull(HostError):
    """The disk is full: nothing else is worth trying."""


def disk_full(directory: Path, *, log: str = "") -> DiskFull:
    """Return the error for a file system without room below ``directory`` (need not exist)."""
    there = directory
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    return DiskFull(
        f"the disk is full: {free / 2**20:.0f} MiB free in {directory}",
        where=str(directory),
        hint="free disk space, or set XK8S_CACHE to a directory on a larger disk "
        "(the cache may be removed at any time: it is filled again)",
        log=log,
    )


def is_full(error: OSError) -> bool:
    """Return whether a system call failed for want of room."""
    return error.errno in _FULL


def says_full(log: str) -> bool:
    """Return whether a program's output blames a full disk."""
    return any(text in log for text in _TEXT)


@contextmanager
def disk_guard(directory: Path) -> Iterator[None]:
    """Turn ENOSPC and EDQUOT of the block into `DiskFull`; other errors pass."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise disk_full(directory) from error
        raise
