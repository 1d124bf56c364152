"""The real program that serves sessions, and the real client; between them sockets in place of a
virtio-serial port: for each connection a program of its own, whose "port" is the connection.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from xk8s.build.artifacts.store import Store
from xk8s.errors import MachineError, StateError
from xk8s.machine.qemu import session as client
from xk8s.machine.qemu.messages import BEGIN, Decoder, Kind, Message, encode
from xk8s.machine.qemu.session import NoProgramError, Request, open_session
from xk8s.machine.qemu.streams import connect
from xk8s.progress import Silent
from xk8s_debian.sessions import PROGRAM, SOURCES, program

pytestmark = pytest.mark.skipif(
    shutil.which("go") is None, reason="no go in PATH (the wheel is 70 MB: not for unit tests)"
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    return Store(cache).get(program(), Silent()).path / "xk8s-sessions"


class Guest:
    """Ports of a guest; `served` are the programs of the connections so far."""

    def __init__(self, root: Path, program: Path, ports: int = 1) -> None:
        self.sockets = [root / f"s{number}" for number in range(ports)]
        self.served: list[subprocess.Popen[bytes]] = []
        self._program = program
        self._listening = []
        for place in self.sockets:
            server = socket.socket(socket.AF_UNIX)
            server.bind(str(place))
            server.listen(1)
            self._listening.append(server)
            threading.Thread(target=self._serve, args=(server,), daemon=True).start()

    def _serve(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.setblocking(False)
                fd = connection.fileno()
                self.served.append(subprocess.Popen([self._program, str(fd)], pass_fds=[fd]))

    def close(self) -> None:
        for server in self._listening:
            server.shutdown(socket.SHUT_RDWR)
            server.close()
        for process in self.served:
            process.kill()
            process.wait()


@pytest.fixture
def guest(path: Path) -> Iterator[Guest]:
    with tempfile.TemporaryDirectory(prefix="xk8s-g-", dir="/tmp") as root:
        guest = Guest(Path(root), path, ports=2)
        try:
            yield guest
        finally:
            guest.close()


def run(
    guest: Guest, *argv: str, stdin: bytes | None = None, terminal: tuple[int, int] | None = None
) -> tuple[int, bytes, bytes]:
    """Exit code, output and errors."""
    with (
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
        tempfile.TemporaryFile() as given,
    ):
        given.write(stdin or b"")
        given.seek(0)
        request = Request(argv=argv, terminal=terminal)
        with open_session(guest.sockets, "vm-001", request) as session:
            code = connect(
                session,
                stdin=None if stdin is None else given.fileno(),
                stdout=output.fileno(),
                stderr=errors.fileno(),
                terminal=None if terminal is None else lambda: (30, 90),
            )
        output.seek(0)
        errors.seek(0)
        return code, output.read(), errors.read()


def wait_for(what: Callable[[], bool]) -> None:
    while not what():
        time.sleep(0.02)


def test_streams_and_exit_code(guest: Guest) -> None:
    script = r"printf 'o\377\000\377\001'; printf 'e\377' >&2; exit 7"
    assert run(guest, "sh", "-c", script) == (7, b"o\xff\x00\xff\x01", b"e\xff")


def test_a_signal_that_ended_the_program_is_its_exit_code(guest: Guest) -> None:
    assert run(guest, "sh", "-c", "kill -9 $$")[0] == 137


def test_input_of_many_windows_comes_back_as_it_was(guest: Guest) -> None:
    data = os.urandom(3 * client.WINDOW + 12345) + b"\xff" * 100_000 + b"\xff\x01\xff\x00"
    assert run(guest, "cat", stdin=data) == (0, data, b"")


def test_input_that_nobody_reads_does_not_hold_the_program_up(guest: Guest) -> None:
    assert run(guest, "true", stdin=bytes(4 * client.WINDOW))[0] == 0


def test_all_that_a_program_wrote_comes_although_a_child_keeps_its_output_open(
    guest: Guest,
) -> None:
    pid = run(guest, "sh", "-c", "sleep 1000 & echo $!; head -c 300000 /dev/zero")[1]
    number, _, rest = pid.partition(b"\n")
    os.kill(int(number), signal.SIGKILL)
    assert rest == bytes(300_000)


def test_a_program_that_is_not_there_or_cannot_run(guest: Guest) -> None:
    for name, number in (("no-such-program", 2), ("/no/such", 2), ("/etc/passwd", 13)):
        with pytest.raises(NoProgramError) as error:
            run(guest, name)
        assert error.value.number == number


def test_a_terminal_has_its_size_and_turns_the_end_of_input_into_an_end_of_file(
    guest: Guest,
) -> None:
    code, output, errors = run(
        guest, "sh", "-c", "tty; stty size; cat", stdin=b"typed\n", terminal=(30, 90)
    )
    assert (code, errors) == (0, b"")
    lines = output.decode().replace("\r", "").splitlines()
    assert [line for line in lines if line.startswith("/dev/pts/")]
    assert lines.count("typed") >= 1
    assert "30 90" in lines


def test_an_input_that_stays_open_is_not_waited_for(guest: Guest) -> None:
    reader, writer = os.pipe()
    with open_session(guest.sockets, "vm-001", Request(argv=("true",))) as session:
        assert connect(session, stdin=reader, stdout=1, stderr=2) == 0
    os.close(reader)
    os.close(writer)


CLIENT = """
import sys
from pathlib import Path
from xk8s.machine.qemu.session import Request, open_session
from xk8s.machine.qemu.streams import connect
with open_session([Path(sys.argv[1])], "vm-001", Request(argv=tuple(sys.argv[2:]))) as session:
    sys.exit(connect(session, stdin=0, stdout=1, stderr=2))
"""


def start(guest: Guest, *argv: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", CLIENT, str(guest.sockets[0]), *argv]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_output_comes_while_the_program_runs_and_input_reaches_it(guest: Guest) -> None:
    process = start(guest, "sh", "-c", "while read line; do echo got $line; done")
    assert process.stdin is not None
    assert process.stdout is not None
    for word in (b"one", b"two"):
        process.stdin.write(word + b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"got " + word + b"\n"
    process.stdin.close()
    assert process.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_reach_the_program(guest: Guest, number: signal.Signals) -> None:
    script = "echo ready; exec sleep 1000"
    process = start(guest, "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    assert process.wait() == 128 + number


def test_a_signal_comes_through_when_the_program_takes_no_input(guest: Guest) -> None:
    process = start(guest, "sh", "-c", "echo ready; exec sleep 1000")
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    os.set_blocking(process.stdin.fileno(), False)
    sent = 0
    while sent < client.WINDOW:  # more than is taken from it
        try:
            sent += os.write(process.stdin.fileno(), bytes(1 << 16))
        except BlockingIOError:
            time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130


def test_a_client_that_is_killed_takes_its_program_along(guest: Guest) -> None:
    process = start(guest, "sh", "-c", "echo $$; exec sleep 1000")
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    wait_for(lambda: not Path(f"/proc/{pid}").exists())


def test_sessions_of_one_guest_go_side_by_side_and_the_next_waits(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_FREE_SECONDS", 0.0)
    one, two, three = (Request(argv=("cat",)) for _ in range(3))
    with (
        open_session(guest.sockets, "vm-001", one),
        open_session(guest.sockets, "vm-001", two),
        pytest.raises(StateError, match="all 2 sessions of the VM are in use"),
    ):
        open_session(guest.sockets, "vm-001", three).__enter__()
    assert run(guest, "echo", "free")[1] == b"free\n"


def test_a_guest_that_is_gone_is_said(guest: Guest) -> None:
    with open_session(guest.sockets, "vm-001", Request(argv=("sleep", "1000"))) as session:
        guest.served[-1].kill()
        with pytest.raises(MachineError, match="the connection ended before the program did"):
            connect(session, stdin=None, stdout=1, stderr=2)


# --- what earlier sessions left ---------------------------------------------------------


@pytest.fixture
def line(path: Path) -> Iterator[socket.socket]:
    """One connection, over which many sessions go, as if their ends had never been seen."""
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.setblocking(False)
        process = subprocess.Popen([path, str(theirs.fileno())], pass_fds=[theirs.fileno()])
    with ours:
        yield ours
    process.kill()
    process.wait()


def hello(*argv: str) -> tuple[bytes, bytes]:
    """The bytes that begin a session, and its nonce."""
    nonce = os.urandom(16)
    return BEGIN + encode(Kind.HELLO, nonce + Request(argv=argv).encoded()), nonce


def answers(line: socket.socket, nonce: bytes) -> list[Message]:
    """All messages of a session."""
    decoder, found = Decoder(), list[Message]()
    while not decoder.begun_with(nonce):
        decoder.search(line.recv(1 << 16), nonce)
    found += decoder.feed(b"")
    while not found or found[-1].kind is not Kind.EXIT:
        found += decoder.feed(line.recv(1 << 16))
    return found


@pytest.mark.parametrize(
    "left",
    [
        b"anything",
        b"\xff",
        encode(Kind.INPUT, bytes(1000))[:50],
        hello("sleep", "1000")[0][:-3],
        hello("sleep", "1000")[0] + encode(Kind.INPUT, b"\xff" * 1000)[:-1],
        hello("sleep", "1000")[0] + b"I\x7f\x00\x00\x00",
        hello()[0],
        hello("cat", "/dev/zero")[0],
    ],
    ids=["noise", "escape", "half", "half-hello", "half-escape", "endless", "nothing", "output"],
)
def test_what_an_earlier_session_left_disturbs_none(line: socket.socket, left: bytes) -> None:
    line.sendall(left)
    begin, nonce = hello("echo", "mine")
    line.sendall(begin)
    kinds = [(message.kind, message.payload) for message in answers(line, nonce)]
    assert kinds == [(Kind.OUTPUT, b"mine\n"), (Kind.EXIT, b"\0")]


def test_a_client_learns_that_the_guest_began_again(path: Path) -> None:
    """As after a reset: QEMU keeps the connection, and nobody knows of the session any more."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        argv, fds = [path, str(theirs.fileno())], [theirs.fileno()]
        first = subprocess.Popen(argv, pass_fds=fds)
        session = client.GuestSession(ours, "vm-001")
        session.begin(Request(argv=("sh", "-c", "echo $$; exec sleep 1000")))
        pid = None
        while pid is None:
            select.select([ours], [], [])
            for message in session.messages():
                if message.kind is Kind.OUTPUT:
                    pid = int(message.payload)
        first.kill()
        first.wait()
        os.kill(pid, signal.SIGKILL)
        second = subprocess.Popen(argv, pass_fds=fds)
        try:
            with pytest.raises(MachineError, match=r"vm-001: the guest or its service .* again"):
                connect(session, stdin=None, stdout=1, stderr=2)
            # It serves the next one.
            begin, nonce = hello("echo", "mine")
            ours.setblocking(True)
            ours.sendall(begin)
            assert [message.kind for message in answers(ours, nonce)] == [Kind.OUTPUT, Kind.EXIT]
        finally:
            second.kill()
            second.wait()


# --- the source -------------------------------------------------------------------------


@pytest.mark.parametrize("tool", [["gofmt", "-l", "."], ["go", "vet", "./..."]], ids=" ".join)
def test_the_source_is_formatted_and_vetted(tool: list[str]) -> None:
    source = files("xk8s_debian").joinpath("program")
    done = subprocess.run(tool, cwd=str(source), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_file_of_the_source_is_built() -> None:
    source = files("xk8s_debian").joinpath("program")
    assert {path.name for path in source.iterdir()} == {*SOURCES, "go.mod"}


def test_the_unit_starts_the_program() -> None:
    unit = files("xk8s_debian").joinpath("files/config/etc/systemd/system/xk8s-sessions.service")
    assert f"\nExecStart={PROGRAM}\n" in unit.read_text()
