"""The user's terminal on a guest's console: raw keys, Ctrl-] to leave, one user at a time."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import termios
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import filelock

from xk8s.errors import MachineError, StateError

ESCAPE = b"\x1d"
"""Ctrl-]"""
_CHUNK = 1 << 16


def attach(
    socket_path: Path,
    name: str,
    *,
    stdin: int = 0,
    stdout: int = 1,
    shell: bool = False,
    idle: float = 2.0,
) -> None:
    """Connect descriptors to the console of VM ``name`` until the user types Ctrl-] or QEMU ends.

    ``shell`` says that the console is a shell: it gets the size of the terminal, now and whenever
    that changes. If ``stdin`` is not a terminal, its bytes are copied in, and output is printed
    until none came for ``idle`` seconds. `StateError` if somebody else is attached, `MachineError`
    if the VM is gone.
    """
    lock = filelock.FileLock(f"{socket_path}.lock", mode=0o600)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise StateError(
            f"{name}: its console is in use by another xk8s",
            where=str(socket_path),
            hint="leave the other one with Ctrl-]",
        ) from error
    try:
        with _connect(socket_path, name) as stream:
            if os.isatty(stdin):
                _interactive(stream, stdin, stdout, shell=shell)
            else:
                _batch(stream, stdin, stdout, idle)
    finally:
        lock.release()


def _connect(path: Path, name: str) -> socket.socket:
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        stream.connect(str(path))
    except OSError as error:
        stream.close()
        raise MachineError(
            f"{name}: its console cannot be reached: {error.strerror}",
            where=str(path),
            hint="see `xk8s status`",
        ) from error
    return stream


def _interactive(stream: socket.socket, stdin: int, stdout: int, *, shell: bool) -> None:
    def resize() -> None:
        size = os.get_terminal_size(stdin)
        if not (size.lines and size.columns):
            return  # a terminal that nobody looks at, such as a test's
        # By the shell: a virtconsole gets no size from a socket. The leading space keeps the
        # line out of the history, and Ctrl-U throws away a half-typed line before it.
        stream.sendall(b"\x15 stty rows %d cols %d\r" % (size.lines, size.columns))

    print(f"attached; Ctrl-] leaves{'' if shell else ' (kernel console)'}\r", file=sys.stderr)
    watched: list[socket.socket | int] = [stdin, stream]
    with raw(stdin), _resizes(watch=shell) as changed:
        if shell:
            resize()
        else:
            stream.sendall(b"\r")  # make a login prompt show itself
        watched.append(changed)
        while True:
            ready, _, _ = select.select(watched, [], [])
            if changed in ready:
                os.read(changed, _CHUNK)
                resize()
            if stdin in ready:
                keys = os.read(stdin, _CHUNK)
                before, escape, _ = keys.partition(ESCAPE)
                stream.sendall(before)
                if escape or not keys:
                    return
            if stream in ready:
                data = stream.recv(_CHUNK)
                if not data:
                    return
                _write(stdout, data)


def _batch(stream: socket.socket, stdin: int, stdout: int, idle: float) -> None:
    reading, last = True, time.monotonic()
    while reading or time.monotonic() - last < idle:
        wait = None if reading else max(0.0, idle - (time.monotonic() - last))
        watched: list[socket.socket | int] = [stream, stdin] if reading else [stream]
        ready, _, _ = select.select(watched, [], [], wait)
        if stdin in ready and reading:
            data = os.read(stdin, _CHUNK)
            reading = bool(data)
            last = time.monotonic()
            stream.sendall(data)
        if stream in ready:
            data = stream.recv(_CHUNK)
            if not data:
                return
            last = time.monotonic()
            _write(stdout, data)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


@contextlib.contextmanager
def raw(fd: int) -> Iterator[None]:
    """Let all keys of a terminal, Ctrl-C included, be read as bytes within the block."""
    saved = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSAFLUSH, saved)


@contextlib.contextmanager
def _resizes(*, watch: bool) -> Iterator[int]:
    """A descriptor that gets readable when the terminal's size has changed."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def tell(_number: int, _frame: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(writer, b"\0")

    old = signal.signal(signal.SIGWINCH, tell) if watch else None
    try:
        yield reader
    finally:
        if watch:
            signal.signal(signal.SIGWINCH, old)
        os.close(reader)
        os.close(writer)
