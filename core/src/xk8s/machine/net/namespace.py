"""The cluster's network namespace, seen from outside: starts the holder and asks it for things."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from xk8s.context import ExecResult
from xk8s.errors import HostError, MachineError, StateError
from xk8s.machine.net import holder
from xk8s.machine.net.host_ports import listen_on
from xk8s.machine.net.privileges import check_tun, namespace_hint, unshare_argv
from xk8s.machine.net.protocol import Channel, RefusedError, gone
from xk8s.util.log import get_logger
from xk8s.util.processes import cluster_environment

SOCKET_NAME = "net.sock"
LOG_NAME = "net.log"
ANSWER_TIMEOUT = 15.0
log = get_logger(__name__)

MAX_SOCKET_PATH = 107

Stream = int | IO[bytes] | None
"""As in `subprocess`: a descriptor, a file, PIPE, DEVNULL, or None for this process's own."""


class Namespace:
    """A client of one holder. Every call has its own connection, so threads may share it."""

    def __init__(self, runtime_dir: Path) -> None:
        """Nothing is checked here: see `start` and `attach`."""
        self.socket_path = runtime_dir / SOCKET_NAME
        self._child: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, runtime_dir: Path, env: Mapping[str, str] | None = None) -> Namespace:
        """Make a new namespace and its holder, in a session of its own, and wait until it
        answers. Raises `HostError` when this machine does not permit it, `StateError` when the
        runtime directory has a live one already.
        """
        check_tun()
        self = cls(runtime_dir)
        if len(os.fsencode(self.socket_path)) > MAX_SOCKET_PATH:
            raise HostError(
                "the path of a socket is longer than the kernel allows (107 bytes)",
                where=str(self.socket_path),
                hint="set XK8S_RUNTIME to a directory with a short name",
            )
        if self._answers():
            raise StateError("the cluster's network namespace already exists",
                             where=str(self.socket_path), hint="xk8s down")  # fmt: skip
        self.socket_path.unlink(missing_ok=True)
        argv = [*unshare_argv(), sys.executable, "-I", "-S", holder.__file__, str(self.socket_path)]
        said = runtime_dir / LOG_NAME
        with said.open("wb") as stderr:
            self._child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=cluster_environment(runtime_dir, env),
                cwd="/",
                start_new_session=True,
            )
        try:
            with log.timed("namespace_started", argv=argv, pid=self._child.pid):
                self._wait_ready(self._child, said)
        except BaseException:
            self._child.kill()
            self._child.wait()
            raise
        return self

    @classmethod
    def attach(cls, runtime_dir: Path) -> Namespace:
        """Return the running namespace of a cluster; `MachineError` when it does not answer."""
        self = cls(runtime_dir)
        self.ping()
        return self

    def ping(self) -> dict[str, Any]:
        """``pid`` of the holder and ``warnings`` (what it could not set, e.g. a sysctl)."""
        reply, _ = self._exchange({"op": "ping"}, ANSWER_TIMEOUT)
        return reply

    def bridge(
        self, name: str, *, mac: str, mtu: int = 1500, addresses: Sequence[str] = ()
    ) -> None:
        """A bridge with a pinned MAC and addresses in CIDR form of either family."""
        self._ask(op="bridge", name=name, mac=mac, mtu=mtu, addresses=list(addresses))

    def route(self, destination: str, *, via: str) -> None:
        """Route ``destination`` (CIDR) by the address ``via``; replaces an earlier one."""
        self._ask(op="route", destination=destination, via=via)

    def tap(self, name: str, *, bridge: str, mtu: int = 1500, isolated: bool = False) -> int:
        """A new tap on ``bridge``: its descriptor, for QEMU's ``-netdev tap,fd=``. The caller
        closes its own copy once QEMU has started; the tap lives as long as any copy.
        ``isolated``: it reaches the bridge, and no other isolated tap.
        """
        _, fds = self._ask(op="tap", name=name, bridge=bridge, mtu=mtu, isolated=isolated)
        return fds[0]

    def listen(self, address: str) -> socket.socket:
        """Return a TCP server socket on a free port of an address of the namespace."""
        _, fds = self._ask(op="listen", address=address)
        return socket.socket(fileno=fds[0])

    def forward(self, address: str, port: int, *, preferred: int = 0) -> int:
        """Let a port of the host's 127.0.0.1 lead to an address and port of the namespace, until
        `forget` or the namespace's end. Return it: the one that leads there already, the preferred
        one if it is free, or another one.
        """
        reply, _ = self._ask(op="forwarded", address=address, port=port)
        if reply["host_port"] is not None:
            return int(reply["host_port"])
        with listen_on(preferred) as server:
            self._ask((server.fileno(),), op="forward", address=address, port=port)
            return int(server.getsockname()[1])

    def forget(self, address: str) -> None:
        """Close the ports of the host that lead to an address."""
        self._ask(op="forget", address=address)

    def configure(self, *, batch: str, sysctls: Mapping[str, str] | None = None) -> None:
        """Set sysctls (paths below /proc/sys), then run ``ip -batch`` with these lines."""
        self._ask(op="configure", sysctls=dict(sysctls or {}), batch=batch)

    def hold(self, *fds: int) -> None:
        """Let the holder keep copies of descriptors, in place of earlier ones, for as long as it
        lives.
        """
        self._ask(fds, op="hold")

    def bound(self, directory: Path, *, most: int, seconds: float = 10.0) -> None:
        """Cut logs of a directory (``*.log``) that become longer than ``most`` bytes, for as long
        as the holder lives. It looks at them each so many ``seconds``.
        """
        self._ask(op="bound", directory=str(directory), most=most, seconds=seconds)

    def wait_gone(self, interface: str, seconds: float) -> None:
        """Return when there is no such interface; `HostError` after some seconds."""
        deadline = time.monotonic() + seconds
        while self.run(["ip", "link", "show", "dev", interface]).exit_code == 0:
            if time.monotonic() > deadline:
                raise HostError(f"the interface {interface} does not go", hint="xk8s down")
            time.sleep(0.05)

    def prohibit_addresses(self, host: socket.socket, *, table: int) -> None:
        """Keep every IPv4 address of the host, of which its route socket tells, out of reach of
        what is routed by ``table``.
        """
        self._ask((host.fileno(),), op="prohibit", table=table)

    def dial(self, address: str, port: int, *, timeout: float = 5.0) -> socket.socket:
        """A connected, blocking TCP socket made inside the namespace. Raises OSError (its
        subclasses, TimeoutError among them) as connect does.
        """
        try:
            _, fds = self._ask(
                op="dial", address=address, port=port, timeout=timeout, patience=timeout + 5
            )
        except RefusedError as error:
            raise OSError(error.number, str(error)) from None
        return socket.socket(fileno=fds[0])

    def exec(
        self,
        argv: Sequence[str],
        *,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        cwd: Path | None = None,
    ) -> NamespaceProcess:
        """Start a program of the host inside the namespace (tcpdump, ping, ip …). It gets no
        variables of a proxy: none is reachable from there.
        """
        request = {
            "op": "exec",
            "argv": list(argv),
            "cwd": str(cwd or Path.cwd()),
            "env": {key: value for key, value in os.environ.items() if not _is_proxy(key)},
        }
        log.debug("namespace_program_started", argv=argv, cwd=request["cwd"])
        start = time.monotonic()
        channel = Channel(self.socket_path)
        try:
            with contextlib.ExitStack() as ours:
                pairs = [_stream(n, s, ours) for n, s in enumerate((stdin, stdout, stderr))]
                theirs = [fd for fd, _ in pairs]
                reply, _ = channel.ask(request, theirs, patience=ANSWER_TIMEOUT)
        except BaseException:
            channel.close()
            raise
        streams = (end for _, end in pairs)
        return NamespaceProcess(channel, int(reply["pid"]), *streams, argv=argv, start=start)

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0) -> ExecResult:
        """Run a program inside the namespace to its end. TimeoutError past ``timeout``."""
        with (
            tempfile.TemporaryFile() as given,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
        ):
            given.write(stdin)
            given.seek(0)
            with self.exec(argv, stdin=given, stdout=out, stderr=err) as process:
                code = process.wait(timeout)
            out.seek(0)
            err.seek(0)
            return ExecResult(exit_code=code, stdout=out.read(), stderr=err.read())

    def stop(self) -> None:
        """End the holder and what it runs; no error when it is gone already. The namespace
        itself goes when the last tap descriptor does: end the QEMUs first.
        """
        with contextlib.suppress(OSError, MachineError), Channel(self.socket_path) as channel:
            credentials = channel.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            pidfd = os.pidfd_open(struct.unpack("3i", credentials)[0])
            try:
                with contextlib.suppress(OSError, MachineError):
                    channel.ask({"op": "quit"}, patience=1.0)
                if not select.select([pidfd], [], [], 1.0)[0]:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    select.select([pidfd], [], [], 1.0)
            finally:
                os.close(pidfd)
        if self._child is not None:
            self._child.wait(5)
        self.socket_path.unlink(missing_ok=True)

    # --- inside -------------------------------------------------------------------------

    def _answers(self) -> bool:
        try:
            self.ping()
        except (OSError, MachineError):
            return False
        return True

    def _wait_ready(self, child: subprocess.Popen[bytes], said: Path) -> None:
        deadline = time.monotonic() + ANSWER_TIMEOUT
        while not self._answers():
            if child.poll() is not None or time.monotonic() > deadline:
                text = said.read_text(errors="replace").strip()
                raise HostError(
                    "the cluster's network namespace could not be created",
                    where=" ".join(unshare_argv()),
                    hint=namespace_hint(),
                    log=text or "the holder does not answer",
                )
            time.sleep(0.01)

    def _ask(
        self, fds: Sequence[int] = (), *, patience: float = ANSWER_TIMEOUT, **request: Any
    ) -> tuple[dict[str, Any], list[int]]:
        arguments = {key: value for key, value in request.items() if key != "op"}
        with log.timed("namespace_request", command=request["op"], arguments=arguments):
            return self._exchange(request, patience, fds)

    def _exchange(
        self, request: Mapping[str, Any], patience: float, fds: Sequence[int] = ()
    ) -> tuple[dict[str, Any], list[int]]:
        with Channel(self.socket_path) as channel:
            try:
                return channel.ask(request, fds, patience=patience)
            except TimeoutError as error:
                raise gone(str(request["op"]), error) from error


class NamespaceProcess:
    """A program that runs inside the namespace, much like `subprocess.Popen`. It is ended when
    this object is closed, or its process dies.
    """

    def __init__(
        self,
        channel: Channel,
        pid: int,
        stdin: IO[bytes] | None,
        stdout: IO[bytes] | None,
        stderr: IO[bytes] | None,
        *,
        argv: Sequence[str],
        start: float,
    ) -> None:
        """Made by `Namespace.exec`; the streams are those that were asked for with PIPE."""
        self.pid = pid
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        self.returncode: int | None = None
        self._channel = channel
        self._argv, self._start = argv, start

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code (negative: ended by that signal). TimeoutError past ``timeout``."""
        if self.returncode is None:
            reply, _ = self._channel.receive(timeout)
            self.returncode = int(reply["exit"])
            seconds = round(time.monotonic() - self._start, 4)
            log.info("namespace_program_run", argv=self._argv, exit_code=self.returncode,
                     duration_s=seconds)  # fmt: skip
        return self.returncode

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        try:
            return self.wait(0)
        except TimeoutError:
            return None

    def send_signal(self, number: int) -> None:
        """Signal it; nothing when it has ended."""
        if self.poll() is None:
            self._channel.socket.settimeout(ANSWER_TIMEOUT)
            self._channel.socket.sendall(json.dumps({"signal": int(number)}).encode() + b"\n")

    def close(self) -> None:
        """End it (SIGTERM, then SIGKILL) when it still runs, and close our ends."""
        self._channel.close()
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def __enter__(self) -> NamespaceProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_proxy(variable: str) -> bool:
    return variable.lower().endswith("_proxy")


def _stream(
    number: int, stream: Stream, ours: contextlib.ExitStack
) -> tuple[int, IO[bytes] | None]:
    """Return the descriptor to send (closed with ``ours`` when made here) and our end of a pipe."""
    if stream is None:
        return number, None
    if stream == subprocess.DEVNULL:
        fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        ours.callback(os.close, fd)
        return fd, None
    if stream == subprocess.PIPE:
        reader, writer = os.pipe()
        theirs, mine = (reader, writer) if number == 0 else (writer, reader)
        ours.callback(os.close, theirs)
        return theirs, os.fdopen(mine, "wb" if number == 0 else "rb")
    return (stream if isinstance(stream, int) else stream.fileno()), None
