"""A disk that is full, or fails, as an error that says where, how much is left and what to do."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xk8s.errors import HostError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FAILED = frozenset({errno.EIO, errno.EROFS, errno.EUCLEAN, errno.EBADMSG, errno.EFBIG})
"""A bad disk, one that the kernel made read-only, damaged structures, a limit of file sizes."""
_SAYS_FULL = ("No space left on device", "Disk quota exceeded", "Wrote only ")
"""The last one is what tar says of it."""
_NUMBER = re.compile(r"\[Errno (\d+)\]")


class DiskError(HostError):
    """The disk does not take what is written, or give what was: nothing else is worth trying."""


class DiskFull(DiskError):
    """The disk is full."""


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


def disk_error(error: OSError, directory: Path) -> DiskError | None:
    """Return what the disk is to blame for as an error of the family; None for anything else."""
    number = _number(error)
    if number in _FULL:
        return disk_full(directory)
    if number not in _FAILED:
        return None
    return _disk_failed(os.strerror(number), _path(error) or str(directory))


def blamed(log: str, directory: Path) -> DiskError | None:
    """Return the error if a program that failed blames the disk in its output."""
    if any(text in log for text in _SAYS_FULL):
        return disk_full(directory, log=log)
    said = [os.strerror(number) for number in (errno.EIO, errno.EROFS, errno.EUCLEAN)]
    found = next((text for text in said if text in log), None)
    return _disk_failed(found, str(directory), log) if found else None


def _disk_failed(what: str, path: str, log: str = "") -> DiskError:
    return DiskError(
        f"the disk does not do what it should: {what}: {path}",
        where=path,
        hint="look into the kernel's log (dmesg); XK8S_CACHE and XK8S_STATE can name directories "
        "on another disk",
        log=log,
    )


def is_full(error: OSError) -> bool:
    """Return whether a system call failed for want of room."""
    return _number(error) in _FULL


@contextmanager
def disk_guard(directory: Path) -> Iterator[None]:
    """Turn what a full or failing disk makes of the block into a `DiskError`; others pass."""
    try:
        yield
    except OSError as error:
        if (known := disk_error(error, directory)) is not None:
            raise known from error
        raise


def _number(error: OSError) -> int:
    """Return the errno; of `shutil.Error`, which has a list of texts instead, the first one that
    blames the disk.
    """
    if error.errno is not None:
        return error.errno
    numbers = [int(number) for number in _NUMBER.findall(str(error))]
    return next((number for number in numbers if number in _FULL | _FAILED), 0)


def _path(error: OSError) -> str:
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
        failed = [part for part in error.args[0] if _NUMBER.search(str(part[-1]))]
        return str(failed[0][1]) if failed else ""
    name = error.filename2 or error.filename or ""
    return os.fsdecode(name) if isinstance(name, (str, bytes)) else ""
