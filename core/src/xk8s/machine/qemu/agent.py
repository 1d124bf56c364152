"""The guest agent in plain calls: works when every network of the guest is broken.

Plain JSON on a plain socket, not qemu.qmp: the agent has no greeting and no events, its
resynchronization (a byte 0xFF on both ways) breaks a QMPClient, and without asyncio the calls
can be made from any thread.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import filelock

from xk8s.context import ExecResult
from xk8s.errors import MachineError
from xk8s.machine.qemu.agent_answer import (
    AnswerIsError,
    BadAnswer,
    data,
    fields,
    integer,
    is_number,
    returned,
    truth,
)
from xk8s.machine.qemu.sockets import check_sockets
from xk8s.util.log import get_logger

log = get_logger(__name__)

ENVIRONMENT = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LANG=C.UTF-8",
)
"""Of every program that is run in a guest: with no PATH of its own the agent finds little."""

_POLL_FIRST, _POLL_LAST = 0.005, 0.25
_HOLD = 2.0
"""Seconds that an `exec` keeps the agent to itself; past that others get their turn between its
polls (to reconnect costs some 0.1 s)."""
_LONG_WAIT = 0.1
"""Seconds for another command of the agent that are worth a line in the log."""
_CLOCK_OFF = 20_000_000
_CLOCK_TRIES = 5
"""So many nanoseconds of difference are none; to measure it takes as long, and the first calls
after a restore take longer than later ones."""
_CHUNK = 1 << 20
_MAX_ANSWER = 64 << 20
"""Bytes of an answer: the agent keeps 16 MB of each stream of a program, and sends base64."""
_LEAST_RATE = 128 << 10
"""Bytes in a second; an answer that comes more slowly than that takes too long."""
MAX_FILE = 256 << 20
"""Bytes of a file that `Agent.read_file` reads."""
_SENTINEL = b"\xff"

_T = TypeVar("_T")

_ids = itertools.count(time.time_ns() % (1 << 40))


class AgentError(MachineError):
    """The agent answered with an error: it is running, but could not do it."""


class Agent:
    """The agent of VM ``name``. It serves one client at a time (a second one would just hang), so
    calls queue on a file lock. Every error is a `MachineError` that names the VM.
    """

    def __init__(self, socket_path: Path, name: str, *, timeout: float = 10.0) -> None:
        """``timeout``: seconds for the lock, and for each answer."""
        self.name = name
        self._path = socket_path
        self._timeout = timeout
        # A new object per Agent would not exclude other threads: the lock is on the file.
        self._lock = filelock.FileLock(f"{socket_path}.lock", thread_local=True, mode=0o600)

    def ping(self) -> None:
        """Return when the agent answers."""
        with self._session() as session, self._logged("guest-ping"):
            session.call("guest-ping")

    def wait(self, timeout: float) -> None:
        """Return once the agent answers; `MachineError` past ``timeout`` seconds."""
        with self._logged("guest-ping"):
            self._persist(lambda session: session.call("guest-ping"), timeout, patience=1.0)

    def exec(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0) -> ExecResult:
        """Run a program of the guest as root, without a shell; its output and exit code (128 + N
        when signal N ended it). TimeoutError past ``timeout`` (it is killed then).
        `MachineError` when it printed more than the agent keeps (16 MB).
        """
        arguments: dict[str, Any] = {
            "path": argv[0],
            "arg": list(argv[1:]),
            "capture-output": True,
            "env": list(ENVIRONMENT),
        }
        if stdin:
            arguments["input-data"] = base64.b64encode(stdin).decode()
        log.debug("guest_program_started", node=self.name, argv=argv, stdin_bytes=len(stdin))
        with log.timed("guest_program_run", node=self.name, argv=argv) as logged:
            result = self._run(argv, arguments, timeout)
            logged["exit_code"] = result.exit_code
        log.debug("guest_program_output", node=self.name, stdout_bytes=len(result.stdout),
                  stderr_bytes=len(result.stderr))  # fmt: skip
        return result

    def _run(self, argv: Sequence[str], arguments: dict[str, Any], timeout: float) -> ExecResult:
        start = time.monotonic()
        pid: int | None = None
        pause = _POLL_FIRST
        while True:
            with self._session() as session:
                if pid is None:
                    answer = fields(session.call("guest-exec", **arguments))
                    pid = integer(answer.get("pid"), "its pid")
                held = time.monotonic()
                while True:
                    status = fields(session.call("guest-exec-status", pid=pid))
                    if truth(status.get("exited"), "whether it exited"):
                        return self._result(argv, status)
                    if time.monotonic() - start > timeout:
                        self._kill(session, pid)
                        raise TimeoutError(
                            f"{self.name}: {' '.join(argv)}: not finished after {timeout:.0f} s"
                        )
                    if time.monotonic() - held > (_HOLD if pause < _POLL_LAST else 0):
                        break
                    time.sleep(pause)
                    pause = min(pause * 1.5, _POLL_LAST)
            time.sleep(pause)

    def write_file(self, path: str, data: bytes) -> None:
        """Make or replace a file of the guest."""
        with (
            self._logged("guest-file-write", path=path, size=len(data)),
            self._session() as session,
            session.file(path, "wb") as handle,
        ):
            for offset in range(0, len(data), _CHUNK):
                chunk = base64.b64encode(data[offset : offset + _CHUNK]).decode()
                answer = session.call("guest-file-write", handle=handle, **{"buf-b64": chunk})
                size = min(_CHUNK, len(data) - offset)
                integer(fields(answer).get("count"), "what it wrote", least=size, most=size)

    def read_file(self, path: str) -> bytes:
        """Return the content of a file of the guest; `MachineError` past `MAX_FILE`."""
        parts: list[bytes] = []
        size = 0
        with (
            self._logged("guest-file-read", path=path) as logged,
            self._session() as session,
            session.file(path, "rb") as handle,
        ):
            while True:
                reply = fields(session.call("guest-file-read", handle=handle, count=_CHUNK))
                parts.append(data(reply.get("buf-b64"), "what it read"))
                size += len(parts[-1])
                if size > MAX_FILE:
                    raise MachineError(f"{self.name}: {path}: larger than {MAX_FILE >> 20} MiB")
                if truth(reply.get("eof"), "its end") or not parts[-1]:
                    logged["size"] = size
                    return b"".join(parts)

    def set_time(self, timeout: float = 10.0) -> None:
        """Set the guest's clock to the host's, to hundredths of a second; a restored guest is
        behind by the time since it was saved. `MachineError` when it cannot be set, or the agent
        does not answer within ``timeout`` seconds.
        """
        with self._logged("guest-set-time"):
            if self._persist(_set_clock, timeout, patience=self._timeout):
                return
        said = b""
        for form in ("@{}.{:09}", "@{}"):  # busybox knows no fractions
            result = self.exec(["date", "-u", "-s", form.format(*divmod(time.time_ns(), 10**9))])
            if result.exit_code == 0:
                return
            said = result.stderr
        text = said.decode(errors="replace").strip()
        raise MachineError(f"{self.name}: its clock could not be set: {text}")

    def shutdown(self) -> None:
        """Ask the guest to power off; it goes down later (no answer by design)."""
        with self._logged("guest-shutdown"), self._session() as session:
            session.send("guest-shutdown", mode="powerdown")

    # --- inside -------------------------------------------------------------------------

    def _logged(
        self, command: str, **fields: object
    ) -> contextlib.AbstractContextManager[dict[str, object]]:
        return log.timed("agent_command", node=self.name, command=command, **fields)

    def _persist(self, work: Callable[[_Session], _T], timeout: float, *, patience: float) -> _T:
        deadline = time.monotonic() + timeout
        failed = False
        while True:
            try:
                with self._session(patience) as session:
                    return work(session)
            except MachineError as error:
                if not failed:  # the others would fill the log
                    log.debug("agent_not_ready", node=self.name, error=str(error))
                failed = True
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.05)

    @contextlib.contextmanager
    def _session(self, patience: float | None = None) -> Iterator[_Session]:
        seconds = self._timeout if patience is None else patience
        start = time.monotonic()
        check_sockets(self._path, self.name)
        try:
            with (
                self._lock.acquire(timeout=seconds, poll_interval=0.01),
                socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream,
            ):
                if (waited := time.monotonic() - start) > _LONG_WAIT:
                    log.debug("agent_lock_waited", node=self.name, duration_s=round(waited, 3))
                stream.settimeout(seconds)
                stream.connect(str(self._path))
                session = _Session(stream, self.name)
                session.synchronize()
                yield session
        except filelock.Timeout as error:
            raise self._silent("another command uses it") from error
        except _SilentError as error:
            raise self._silent(str(error)) from error
        except BadAnswer as error:
            raise MachineError(
                f"{self.name}: the guest agent's answer makes no sense: {error}",
                where=str(self._path),
                hint="the guest is damaged, or wants harm: boot it again (xk8s up --cold)",
            ) from error
        except (ConnectionError, FileNotFoundError) as error:
            raise self._silent(error.strerror or str(error)) from error

    def _silent(self, why: str) -> MachineError:
        return MachineError(
            f"{self.name}: the guest agent does not answer: {why}",
            where=str(self._path),
            hint=f"look at its console: xk8s console {self.name}",
        )

    def _kill(self, session: _Session, pid: int) -> None:
        with contextlib.suppress(MachineError, BadAnswer):
            session.call("guest-exec", path="/bin/kill", arg=["-KILL", str(pid)])

    def _result(self, argv: Sequence[str], status: dict[str, Any]) -> ExecResult:
        if status.get("out-truncated") or status.get("err-truncated"):
            raise MachineError(
                f"{self.name}: {' '.join(argv)}: printed more than the guest agent keeps (16 MB)",
                hint="write it to a file in the guest and copy that",
            )
        if "exitcode" in status:
            code = integer(status["exitcode"], "its exit code", most=255)
        else:
            code = 128 + integer(status.get("signal", 0), "its signal", most=127)
        return ExecResult(
            exit_code=code,
            stdout=data(status.get("out-data", ""), "its output"),
            stderr=data(status.get("err-data", ""), "its error output"),
        )


def _set_clock(session: _Session) -> bool:
    """Set the guest's clock to the host's; return whether that worked."""
    for _ in range(_CLOCK_TRIES):
        try:
            before = time.time_ns()
            guest = integer(session.call("guest-get-time"), "its time", least=-(1 << 63))
            trip = time.time_ns() - before
        except AgentError:
            return False  # a small agent has no such command
        if abs(before + trip // 2 - guest) < max(_CLOCK_OFF, trip // 2):
            return True
        # It sets the clock, and then wants hwclock for an RTC that no VM needs.
        with contextlib.suppress(AgentError):
            session.call("guest-set-time", time=time.time_ns() + trip // 2)
    return False


class _SilentError(Exception):
    pass


class _Session:
    """One connection that is in step with the agent."""

    def __init__(self, stream: socket.socket, name: str) -> None:
        self._stream = stream
        self._name = name
        self._buffer = b""

    def synchronize(self) -> None:
        """Throw away what an earlier client left: half a command in the agent, late answers on
        the way. The agent answers behind a 0xFF of its own.
        """
        number = next(_ids)
        request = {"execute": "guest-sync-delimited", "arguments": {"id": number}}
        self._write(_SENTINEL + json.dumps(request).encode() + b"\n")
        until = time.monotonic() + (self._stream.gettimeout() or 0)
        while True:
            _, sentinel, rest = self._line().rpartition(_SENTINEL)
            if sentinel and is_number(rest, number):
                return
            if time.monotonic() > until:  # it talks, but not to us
                raise _SilentError(f"no answer in {self._stream.gettimeout():g} s")

    def call(self, command: str, **arguments: Any) -> Any:
        """One command; its "return"."""
        self.send(command, **arguments)
        try:
            return returned(self._line())
        except AnswerIsError as error:
            raise AgentError(f"{self._name}: {command}: {error}") from None

    def send(self, command: str, **arguments: Any) -> None:
        """One command, without waiting for its answer."""
        self._write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")

    @contextlib.contextmanager
    def file(self, path: str, mode: str) -> Iterator[int]:
        """An open file of the guest, as the agent's handle."""
        handle = integer(self.call("guest-file-open", path=path, mode=mode), "its handle")
        try:
            yield handle
        finally:
            with contextlib.suppress(OSError, _SilentError, BadAnswer):
                self.call("guest-file-close", handle=handle)

    def _write(self, data: bytes) -> None:
        try:
            self._stream.sendall(data)
        except TimeoutError:
            raise _SilentError(f"nothing received in {self._stream.gettimeout():g} s") from None

    def _line(self) -> bytes:
        parts = [self._buffer]
        size = len(self._buffer)
        patience = self._stream.gettimeout() or 0
        begin = time.monotonic()
        while b"\n" not in parts[-1]:
            if size > _MAX_ANSWER:
                raise BadAnswer(f"it is longer than {_MAX_ANSWER >> 20} MiB")
            if time.monotonic() - begin > patience + size / _LEAST_RATE:
                raise _SilentError(f"no whole answer in {time.monotonic() - begin:.0f} s")
            try:
                chunk = self._stream.recv(1 << 20)
            except TimeoutError:
                raise _SilentError(f"no answer in {self._stream.gettimeout():g} s") from None
            if not chunk:
                raise _SilentError("QEMU closed the connection")
            parts.append(chunk)
            size += len(chunk)
        line, _, self._buffer = b"".join(parts).partition(b"\n")
        return line
