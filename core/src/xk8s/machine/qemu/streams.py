"""The streams of this process connected to a program in a guest."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import struct
import time
from collections.abc import Callable, Iterator, Sequence

from xk8s.machine.qemu.messages import Kind, Message
from xk8s.machine.qemu.session import GuestSession, NoProgramError

_CHUNK = 1 << 16
_ENOUGH = 3
"""So many signals end a command whose program does not care for them."""
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_END_OF_FILE = b"\x04"
"""What a terminal makes an end of file of."""


def connect(
    session: GuestSession,
    *,
    stdin: int | None,
    stdout: int,
    stderr: int,
    terminal: Callable[[], tuple[int, int]] | None = None,
    timeout: float | None = None,
) -> int:
    """Copy the streams as they come until the program ends; return its exit code. An input that
    stays open is not waited for.

    Signals of this process are passed on to the program. With a terminal (the function returns its
    size) that is done by its keys, and changes of the size are passed on. TimeoutError past
    ``timeout`` seconds (it is killed then); `NoProgramError` if it did not start; `OSError` if
    ``stdout`` takes no more.
    """
    watched = (signal.SIGWINCH,) if terminal else _PASSED_ON
    deadline = None if timeout is None else time.monotonic() + timeout
    with _caught(watched) as caught:
        count = 0
        while True:
            for message in session.messages():
                if message.kind is Kind.EXIT:
                    return message.payload[0]
                _handle(message, stdout, stderr)
            ready = _wait(session, stdin, caught, deadline)
            if caught in ready:
                for number in os.read(caught, _CHUNK):
                    if terminal:
                        session.send(Kind.SIZE, struct.pack(">HH", *terminal()))
                        continue
                    count += 1
                    if count >= _ENOUGH:
                        raise KeyboardInterrupt
                    session.send(Kind.SIGNAL, bytes([number]))
            if session.unsent:
                session.flush()
            if stdin is not None and stdin in ready and not _pass_input(session, stdin, terminal):
                stdin = None
            if deadline is not None and time.monotonic() > deadline:
                session.send(Kind.SIGNAL, bytes([signal.SIGKILL]))
                raise TimeoutError(f"not finished after {timeout:g} s")


def _wait(
    session: GuestSession, stdin: int | None, caught: int, deadline: float | None
) -> set[int]:
    poller = select.poll()
    poller.register(session, select.POLLIN | (select.POLLOUT if session.unsent else 0))
    poller.register(caught, select.POLLIN)
    if stdin is not None and session.room > 0 and not session.unsent:
        poller.register(stdin, select.POLLIN)
    seconds = None if deadline is None else max(0.0, deadline - time.monotonic())
    return {fd for fd, _ in poller.poll(None if seconds is None else seconds * 1000 + 1)}


def _handle(message: Message, stdout: int, stderr: int) -> None:
    if message.kind is Kind.OUTPUT:
        _write(stdout, message.payload)
    elif message.kind is Kind.ERRORS:
        _write(stderr, message.payload)
    elif message.kind is Kind.FAILED:
        number = message.payload[0] if message.payload else errno.EIO
        raise NoProgramError(message.payload[1:].decode(errors="replace"), number)


def _pass_input(
    session: GuestSession, stdin: int, terminal: Callable[[], tuple[int, int]] | None
) -> bool:
    """Return whether there may be more."""
    try:
        data = os.read(stdin, min(_CHUNK, session.room))
    except BlockingIOError:
        return True
    except OSError:
        data = b""  # closed, or a terminal that is gone
    if data:
        session.send(Kind.INPUT, data)
    elif terminal:
        session.send(Kind.INPUT, _END_OF_FILE)
    else:
        session.send(Kind.EOF)
    return bool(data)


def _write(fd: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            select.select([], [fd], [])


@contextlib.contextmanager
def _caught(numbers: Sequence[signal.Signals]) -> Iterator[int]:
    """A descriptor from which the numbers of signals are read; ignored ones stay ignored."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def tell(number: int, _frame: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(writer, bytes([number]))

    before = {}
    try:
        for number in numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, tell)
        yield reader
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)
