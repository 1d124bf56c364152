"""No I/O while planning: what Python does is watched while a hook runs.

Writing, processes and the network are refused, so that a test of a broken overlay does no harm;
reading anything outside of an installed package is noted.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = frozenset({
    "os.chdir", "os.chmod", "os.chown", "os.link", "os.mkdir", "os.putenv", "os.remove",
    "os.rename", "os.rmdir", "os.setxattr", "os.symlink", "os.truncate", "os.unsetenv",
    "os.utime", "tempfile.mkdtemp", "tempfile.mkstemp",
})  # fmt: skip
_PROCESSES = frozenset({
    "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "pty.spawn",
    "subprocess.Popen",
})  # fmt: skip
_LISTS = frozenset({"os.listdir", "os.scandir"})
_DEVICES = frozenset({"/dev/null", "/dev/urandom"})


class IoRefused(Exception):
    """A hook wanted to act on the world."""


class _Watch(threading.local):
    """What is watched in this thread: where to note it, and whether reading counts."""

    seen: list[str] | None = None
    reads: bool = True


_watch = _Watch()
_installed: list[bool] = []
"""An audit hook cannot be taken away again: there is one, which mostly has nothing to do."""


@contextmanager
def watched(*, reads: bool = True) -> Iterator[list[str]]:
    """The list of what the body did, in words: "opened /x for writing". Without ``reads``, reading
    is allowed everywhere.
    """
    if not _installed:
        _installed.append(True)
        sys.addaudithook(_audit)
    seen: list[str] = []
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # a hook may import
    before = _watch.seen, _watch.reads
    _watch.seen, _watch.reads = seen, reads
    try:
        yield seen
    finally:
        _watch.seen, _watch.reads = before
        sys.dont_write_bytecode = bytecode


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    seen = _watch.seen
    if seen is None:
        return
    _watch.seen = None  # what we do ourselves does not count
    try:
        said, refused = _judge(event, arguments)
        if said and said not in seen:
            seen.append(said)
    finally:
        _watch.seen = seen
    if refused:
        raise IoRefused(f"{said}: no hook may do that while a plan is made")


def _judge(event: str, arguments: tuple[Any, ...]) -> tuple[str, bool]:
    """Return what to say of it ("" when it is allowed), and whether to refuse it."""
    what = str(arguments[0]) if arguments else ""
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, int):
            return "", False
        path = os.fsdecode(path)
        if path in _DEVICES:
            return "", False
        if flags & _WRITES:
            return f"opened {path} for writing", True
        return _read(path)
    if event in _LISTS:
        return _read(os.fsdecode(arguments[0] or ".")) if not isinstance(arguments[0], int) else (
            "", False
        )  # fmt: skip
    if event in _CHANGES or event.startswith("shutil."):
        return f"called {event}({what})", True
    if event in _PROCESSES:
        return f"started a process: {what}", True
    if event.startswith("socket.") or event in ("http.client.connect", "urllib.Request"):
        return f"used the network ({event})", True
    return "", False


def _read(path: str) -> tuple[str, bool]:
    if not _watch.reads:
        return "", False
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - as it was named, with links unfollowed
    roots = {sys.prefix, sys.base_prefix, *(entry for entry in sys.path if entry)}
    if any(whole.is_relative_to(root) for root in roots):
        return "", False
    return f"read {whole}", False
