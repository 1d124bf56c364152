"""Whether what lies on the disk is still what was written.

Everything in the cache and each snapshot has sums. Reading gigabytes takes longer than a restore
may, so they are compared once per start of this machine: what lies in the page cache does not
change by itself, what is read from a disk (after a power loss, or from a bad one) might have. A
mark beside the data has the boot id, and what `stat` said of each file: one that was cut, replaced
or removed since is noticed at once.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from xk8s.util.digest import canonical, sha256_text
from xk8s.util.files import write_atomic

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Another one after each start of the machine."""

MARK = "compared"
"""Name of a mark in the directory of what it is about, or ending of one beside it."""

_UNREADABLE = frozenset(
    {
        errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP,
        # A bad disk; damaged inodes, directories and checksums of a file system.
        errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENODATA,
    }
)  # fmt: skip

_compared: dict[Path, str] = {}
"""What this process compared: where a mark cannot be written, it need not read everything twice."""


def is_damage(error: OSError) -> bool:
    """Return whether what could not be read is missing or damaged (and not, say, forbidden)."""
    return error.errno in _UNREADABLE


def damage(mark: Path, paths: Iterable[Path], compare: Callable[[], str | None]) -> str | None:
    """Return what is wrong with files and trees, in words, or None. ``compare`` reads all of them
    and says it; it is asked unless that has been done since this machine was started.
    """
    paths = tuple(paths)
    if is_compared(mark, paths):
        return None
    try:
        before = _stamp(paths)
        why = compare()
    except OSError as error:
        if not is_damage(error):
            raise
        return f"{error.strerror}: {error.filename or paths[0]}"
    if why is None:
        _remember(mark, before)
    return why


def is_compared(mark: Path, paths: Iterable[Path]) -> bool:
    """Return whether all of it was compared since this machine was started, and not changed."""
    try:
        now, name = _stamp(paths), mark.absolute()
        if _compared.get(name) != now and mark.read_text() != now:
            return False
        _compared[name] = now
        return True
    except (OSError, ValueError):
        return False


def note_compared(mark: Path, paths: Iterable[Path]) -> None:
    """Remember that all of it is as it was written. A mark that cannot be written costs a
    comparison.
    """
    _remember(mark, _stamp(paths))


def forget(mark: Path) -> None:
    """Have the data of one mark compared again."""
    _compared.pop(mark.absolute(), None)
    with contextlib.suppress(OSError):
        mark.unlink(missing_ok=True)


def forget_compared(cache: Path) -> None:
    """Have everything in the cache compared again: a disk that damaged one file may have damaged
    others, and an image may be a link to a damaged artifact.
    """
    for mark in (*cache.glob(f"*/*.{MARK}"), *cache.glob(f"*/*/{MARK}"), *_compared):
        forget(mark)


def seal(document: Mapping[str, Any]) -> str:
    """JSON text of a document with a sum of its own."""
    whole = {**document, "sum": sha256_text(canonical(document))}
    return json.dumps(whole, indent=1) + "\n"


def unseal(text: str | bytes) -> dict[str, Any]:
    """Return the document; ValueError when it is not what was sealed. Older ones have no sum."""
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("it is not a description")
    found = document.pop("sum", None)
    if found is not None and found != sha256_text(canonical(document)):
        raise ValueError("its description does not match its checksum")
    return document


def _remember(mark: Path, stamp: str) -> None:
    _compared[mark.absolute()] = stamp
    with contextlib.suppress(OSError):
        write_atomic(mark, stamp, mode=0o600)


def _stamp(paths: Iterable[Path]) -> str:
    """Boot id, and a digest of what `stat` says of everything. Each `up` does it for each file that
    it needs from the cache: no `Path` for every one.
    """
    total = hashlib.sha256()
    for path in paths:
        for name, status in _below(os.fspath(path)):
            facts: tuple[int, ...] = (status.st_mode,)
            if not stat.S_ISDIR(status.st_mode):
                facts += (status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev)
            total.update(os.fsencode(f"{path.name}\0{name}\0{facts}\0"))
    return f"{BOOT_ID.read_text().strip()} {total.hexdigest()}\n"


def _below(path: str, name: str = "") -> Iterator[tuple[str, os.stat_result]]:
    status = os.lstat(path)
    yield name, status
    if stat.S_ISDIR(status.st_mode):
        for entry in sorted(found.name for found in os.scandir(path)):
            yield from _below(f"{path}/{entry}", f"{name}/{entry}")
