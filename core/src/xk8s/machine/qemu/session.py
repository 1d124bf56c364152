"""Programs of a guest, with streams: the host's side of the ports ``xk8s.session.N``.

docs/reference/boot.md has the protocol. A port serves one program at a time; who wants one takes
a free port, so that sessions have nothing in common that could break.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import field, frozen

from xk8s.errors import MachineError, StateError
from xk8s.machine.qemu.agent import ENVIRONMENT
from xk8s.machine.qemu.messages import BEGIN, Decoder, Kind, Message, encode
from xk8s.machine.qemu.sockets import check_sockets
from xk8s.util.log import get_logger

log = get_logger(__name__)

_ANSWER_SECONDS = 60.0
"""A guest without KVM on a busy host takes long; one without that service never answers."""
_FREE_SECONDS = 30.0
_CHUNK = 1 << 18
WINDOW = 1 << 20
"""Bytes of input on the way: a program that takes none must not keep signals from it."""


@frozen(kw_only=True)
class Request:
    """A program to run as root, without a shell. ``terminal``: its size in rows and columns."""

    argv: tuple[str, ...]
    terminal: tuple[int, int] | None = None
    environment: tuple[str, ...] = field(default=ENVIRONMENT)

    def encoded(self) -> bytes:
        """Return it as the guest reads it."""
        rows, columns = self.terminal or (0, 0)
        data = {
            "argv": self.argv,
            "env": self.environment,
            "tty": self.terminal is not None,
            "rows": rows,
            "cols": columns,
        }
        return json.dumps(data).encode()


class NoProgramError(MachineError):
    """The guest does not have the program, or may not run it. ``number`` is its errno."""

    def __init__(self, message: str, number: int) -> None:
        """``message``: what the guest said."""
        super().__init__(message)
        self.number = number


class GuestSession:
    """A connected session. Its socket does not block; `messages` and `flush` are called when
    `fileno` is readable and writable.
    """

    def __init__(self, stream: socket.socket, name: str) -> None:
        """``stream`` leads to the guest's port; ``name`` is the VM's."""
        self._stream = stream
        self._name = name
        self._decoder = Decoder()
        self._out = bytearray()
        self._early: list[Message] = []
        self.room = WINDOW

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._stream.fileno()

    @property
    def unsent(self) -> bool:
        """Whether `flush` has something to do."""
        return bool(self._out)

    def send(self, kind: Kind, payload: bytes = b"") -> None:
        """Queue a message and write what can be written."""
        if kind is Kind.INPUT:
            self.room -= len(payload)
        self._out += encode(kind, payload)
        self.flush()

    def flush(self) -> None:
        """Write what can be written. What does not reach a guest that is gone is seen by
        `messages`.
        """
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while self._out:
                del self._out[: self._stream.send(self._out)]

    def messages(self) -> list[Message]:
        """Return what the guest has sent. `MachineError` if there will be no more."""
        if self._early:
            early, self._early = self._early, []
            return early
        try:
            data = self._stream.recv(_CHUNK)
        except BlockingIOError:
            return []
        except ConnectionError:
            data = b""
        if not data:
            raise MachineError(
                f"{self._name}: the connection ended before the program did",
                hint="the VM ended, or another process took over from it (`xk8s snapshot save` "
                "does that); see `xk8s status`",
            )
        return self._decoded(data)

    def _decoded(self, data: bytes) -> list[Message]:
        try:
            found = list(self._decoder.feed(data))
        except EOFError:
            raise MachineError(
                f"{self._name}: the guest or its service for programs was started again before the "
                "program ended",
                hint="run it again",
            ) from None
        except ValueError as error:
            raise MachineError(
                f"{self._name}: the guest's answer makes no sense: {error}"
            ) from None
        self.room += sum(
            int.from_bytes(message.payload) for message in found if message.kind is Kind.TAKEN
        )
        return found

    def begin(self, request: Request) -> None:
        """Start the program. `NoProgramError` if the guest cannot, `MachineError` if it does not
        answer.
        """
        nonce = os.urandom(16)
        self._stream.settimeout(_ANSWER_SECONDS)
        try:
            self._stream.sendall(BEGIN + encode(Kind.HELLO, nonce + request.encoded()))
            while not self._decoder.begun_with(nonce):
                data = self._stream.recv(_CHUNK)
                if not data:
                    raise ConnectionResetError("QEMU closed the connection")
                self._decoder.search(data, nonce)
        except OSError as error:
            why = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
            raise MachineError(
                f"{self._name}: the guest does not run programs for this machine: {why}",
                hint=f"its service may have ended, which `xk8s console {self._name}` may show",
            ) from error
        self._stream.setblocking(False)
        self._early = self._decoded(b"")


@contextlib.contextmanager
def open_session(sockets: Sequence[Path], name: str, request: Request) -> Iterator[GuestSession]:
    """Start a program of VM ``name`` on a free port; a program that still runs at the end
    of the block gets SIGHUP. `StateError` if all ports stay in use.
    """
    with contextlib.ExitStack() as stack:
        path = _take_port(stack, sockets, name)
        stream = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            stream.connect(str(path))
        except OSError as error:
            raise MachineError(
                f"{name}: the VM cannot be reached: {error.strerror}",
                where=str(path),
                hint="see `xk8s status`",
            ) from error
        session = GuestSession(stream, name)
        with log.timed("guest_session", node=name, argv=request.argv, port=path.name):
            session.begin(request)
            yield session


def _take_port(stack: contextlib.ExitStack, sockets: Sequence[Path], name: str) -> Path:
    """Lock a port that nobody uses, until the stack ends. The kernel unlocks it when the process
    ends in whatever way.
    """
    deadline = time.monotonic() + _FREE_SECONDS
    check_sockets(sockets[0], name)
    while True:
        for path in sockets:
            lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            stack.callback(os.close, lock)
            return path
        if time.monotonic() > deadline:
            raise StateError(
                f"{name}: all {len(sockets)} sessions of the VM are in use",
                hint="end one of the other `xk8s exec`, `cp` or `ssh` of this node",
            )
        time.sleep(0.05)
