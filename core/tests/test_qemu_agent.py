"""The guest agent's client, against a small agent that serves one client at a time as QEMU does,
and against the real qemu-ga where it is installed.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from xk8s.errors import MachineError
from xk8s.machine.qemu.agent import Agent, AgentError
from xk8s.util.log import Record

Handler = Callable[[dict[str, Any]], Any]


class SmallAgent:
    """Speaks the agent's protocol; ``override`` replaces commands, ``greeting`` is what an
    earlier client left unread.
    """

    def __init__(self, path: Path) -> None:
        self.override: dict[str, Handler] = {}
        self.greeting = b""
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._files: dict[int, Any] = {}
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen(8)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                connection.sendall(self.greeting)
                data = b""
                while chunk := connection.recv(1 << 16):
                    data += chunk
                    while b"\n" in data:
                        line, _, data = data.partition(b"\n")
                        answer = self._answer(line.rpartition(b"\xff")[2])
                        if answer is None:
                            continue
                        try:
                            connection.sendall(answer)
                        except OSError:
                            break

    def _answer(self, line: bytes) -> bytes | None:
        request = json.loads(line)
        name, arguments = request["execute"], request.get("arguments", {})
        self.calls.append((name, arguments))
        handler = self.override.get(name) or getattr(self, name.replace("-", "_"))
        try:
            result = handler(arguments)
        except LookupError as error:
            return json.dumps({"error": {"class": "X", "desc": str(error)}}).encode() + b"\n"
        if result is None:
            return None
        mark = b"\xff" if name == "guest-sync-delimited" else b""
        return mark + json.dumps({"return": result}).encode() + b"\n"

    def guest_sync_delimited(self, arguments: dict[str, Any]) -> Any:
        return arguments["id"]

    def guest_ping(self, arguments: dict[str, Any]) -> Any:
        return {}

    def guest_exec(self, arguments: dict[str, Any]) -> Any:
        with tempfile.TemporaryFile() as stdin:
            stdin.write(base64.b64decode(arguments.get("input-data", "")))
            stdin.seek(0)
            try:
                child = subprocess.Popen(
                    [arguments["path"], *arguments["arg"]],
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
            except OSError as error:
                raise LookupError(f"Failed to execute child process: {error}") from None
        self._children[child.pid] = child
        return {"pid": child.pid}

    def guest_exec_status(self, arguments: dict[str, Any]) -> Any:
        child = self._children[arguments["pid"]]
        if child.poll() is None:
            return {"exited": False}
        out, err = child.communicate()
        code = child.returncode
        status = {"signal": -code} if code < 0 else {"exitcode": code}
        output = {"out-data": out, "err-data": err}
        encoded = {key: base64.b64encode(data).decode() for key, data in output.items() if data}
        return {"exited": True, **status, **encoded}

    def guest_file_open(self, arguments: dict[str, Any]) -> Any:
        try:
            file = open(arguments["path"], arguments["mode"])  # noqa: PTH123, SIM115
        except OSError as error:
            raise LookupError(str(error)) from None
        self._files[file.fileno()] = file
        return file.fileno()

    def guest_file_write(self, arguments: dict[str, Any]) -> Any:
        data = base64.b64decode(arguments["buf-b64"])
        return {"count": self._files[arguments["handle"]].write(data), "eof": False}

    def guest_file_read(self, arguments: dict[str, Any]) -> Any:
        data = self._files[arguments["handle"]].read(arguments["count"])
        text = base64.b64encode(data).decode()
        return {"count": len(data), "buf-b64": text, "eof": len(data) < arguments["count"]}

    def guest_file_close(self, arguments: dict[str, Any]) -> Any:
        self._files.pop(arguments["handle"]).close()
        return {}

    def close(self) -> None:
        # To close it alone would leave the thread in accept(), which a signal makes the kernel
        # take up again by the number of the descriptor: that of another test's socket by then.
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        assert not self._thread.is_alive()
        self._server.close()
        for child in self._children.values():
            child.kill()
            child.wait()


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="xk8s-") as name:
        yield Path(name)


@pytest.fixture
def small(directory: Path) -> Iterator[SmallAgent]:
    agent = SmallAgent(directory / "agent")
    yield agent
    agent.close()


@pytest.fixture(params=["small", "qemu-ga"])
def path(request: pytest.FixtureRequest, directory: Path) -> Iterator[Path]:
    """The socket of an agent; both kinds run on this machine as this user."""
    socket_path = directory / "agent"
    if request.param == "small":
        agent = SmallAgent(socket_path)
        yield socket_path
        agent.close()
        return
    program = shutil.which("qemu-ga", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("qemu-ga is not installed")
    child = subprocess.Popen(
        [program, "-m", "unix-listen", "-p", str(socket_path), "-t", str(directory)]
    )
    try:
        Agent(socket_path, "vm-001").wait(5)
        yield socket_path
    finally:
        child.kill()
        child.wait()


def test_ping_and_exec(path: Path) -> None:
    agent = Agent(path, "vm-001")
    agent.ping()
    result = agent.exec(["sh", "-c", "cat; echo bad >&2; exit 3"], stdin=b"\0\xffin")
    assert (result.exit_code, result.stdout, result.stderr) == (3, b"\0\xffin", b"bad\n")
    assert agent.exec(["sh", "-c", "kill -9 $$"]).exit_code == 128 + 9
    # One word stays one word: no shell.
    assert agent.exec(["echo", "a  b; $HOME"]).stdout == b"a  b; $HOME\n"


def test_big_output_comes_whole(path: Path) -> None:
    result = Agent(path, "vm-001").exec(["head", "-c", "60000", "/dev/zero"])
    assert result.stdout == bytes(60000)


def test_missing_program_is_an_error_that_names_the_vm(path: Path) -> None:
    with pytest.raises(AgentError, match="vm-001"):
        Agent(path, "vm-001").exec(["no-such-program"])


def test_files_there_and_back(path: Path, directory: Path) -> None:
    agent, data = Agent(path, "vm-001"), os.urandom(2_500_000)
    agent.write_file(str(directory / "file"), data)
    assert (directory / "file").read_bytes() == data
    assert agent.read_file(str(directory / "file")) == data
    agent.write_file(str(directory / "file"), b"")
    assert agent.read_file(str(directory / "file")) == b""
    with pytest.raises(AgentError, match="no-such-directory"):
        agent.read_file(str(directory / "no-such-directory" / "file"))


def test_commands_are_logged_without_what_they_read_and_write(
    small: SmallAgent, directory: Path, records: list[Record]
) -> None:
    agent = Agent(directory / "agent", "vm-001")
    agent.ping()
    assert agent.exec(["sh", "-c", "cat; exit 3"], stdin=b"hush").exit_code == 3
    agent.write_file(str(directory / "file"), b"hush")
    assert agent.read_file(str(directory / "file")) == b"hush"
    with pytest.raises(MachineError):
        agent.exec(["/no/such/program"])
    shown = [record for record in records if record.level == logging.INFO]
    assert [(record.event, record.fields.get("command")) for record in shown] == [
        ("agent_command", "guest-ping"),
        ("guest_program_run", None),
        ("agent_command", "guest-file-write"),
        ("agent_command", "guest-file-read"),
        ("guest_program_run", None),
    ]
    assert {record.fields["node"] for record in shown} == {"vm-001"}
    assert shown[1].fields["argv"] == ["sh", "-c", "cat; exit 3"]
    assert shown[1].fields["exit_code"] == 3
    assert [record.fields["size"] for record in shown[2:4]] == [4, 4]
    assert "Failed to execute" in str(shown[4].fields["error"])
    begun = [record.fields for record in records if record.event == "guest_program_started"]
    assert [fields["stdin_bytes"] for fields in begun] == [4, 0]
    assert "hush" not in str(records)
    assert base64.b64encode(b"hush").decode() not in str(records)


def test_timeout_ends_the_command(path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=r"vm-001: sleep 61\.25"):
        Agent(path, "vm-001").exec(["sleep", "61.25"], timeout=0.2)
    assert time.monotonic() - start < 5
    deadline = time.monotonic() + 5
    while _running(b"sleep\x0061.25"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _running(command: bytes) -> bool:
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cmdline").read_bytes().startswith(command):
                return True
        except OSError:
            continue
    return False


def test_a_long_command_lets_others_in_between(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xk8s.machine.qemu.agent._HOLD", 0.2)
    results = []

    def long() -> None:
        results.append(Agent(path, "vm-001", timeout=20).exec(["sleep", "1.5"]))

    thread = threading.Thread(target=long)
    thread.start()
    time.sleep(0.1)
    start = time.monotonic()
    Agent(path, "vm-001", timeout=20).ping()
    assert time.monotonic() - start < 1.3
    assert not results, "the long command had ended before"
    thread.join()
    assert results[0].exit_code == 0


def test_many_threads_queue(small: SmallAgent, directory: Path) -> None:
    agent, results = Agent(directory / "agent", "vm-001"), []

    def work(number: int) -> None:
        results.append(agent.exec(["echo", str(number)]).stdout)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [b"%d\n" % number for number in range(8)]


def test_answers_of_an_earlier_client_are_thrown_away(small: SmallAgent, directory: Path) -> None:
    small.greeting = b'{"return": {"pid": 1}}\n{"return": {"half'
    assert Agent(directory / "agent", "vm-001").exec(["echo", "mine"]).stdout == b"mine\n"


def test_a_silent_agent_is_an_error_in_time(small: SmallAgent, directory: Path) -> None:
    small.override["guest-sync-delimited"] = lambda _: None
    agent = Agent(directory / "agent", "vm-001", timeout=0.2)
    with pytest.raises(MachineError, match=r"vm-001.*no answer in 0\.2 s") as caught:
        agent.ping()
    assert "xk8s console vm-001" in caught.value.hint
    del small.override["guest-sync-delimited"]
    agent.ping()


def test_an_absent_agent_is_an_error(directory: Path) -> None:
    with pytest.raises(MachineError, match="vm-001"):
        Agent(directory / "agent", "vm-001").ping()
    with pytest.raises(MachineError, match="vm-001"):
        Agent(directory / "agent", "vm-001").wait(0.2)


def test_truncated_output_is_an_error(small: SmallAgent, directory: Path) -> None:
    small.override["guest-exec-status"] = lambda _: {
        "exited": True,
        "exitcode": 0,
        "out-data": "",
        "out-truncated": True,
    }
    with pytest.raises(MachineError, match="16 MB"):
        Agent(directory / "agent", "vm-001").exec(["true"])


def test_shutdown(small: SmallAgent, directory: Path) -> None:
    agent = Agent(directory / "agent", "vm-001")
    small.override["guest-shutdown"] = lambda _: None
    agent.shutdown()
    agent.ping()
    assert ("guest-shutdown", {"mode": "powerdown"}) in small.calls


@pytest.mark.parametrize("has_hwclock", [True, False])
@pytest.mark.parametrize("behind", [0.0, 3600.0, -90.0, 0.4])
def test_the_clock_is_set_however_slow_the_first_answers_are(
    small: SmallAgent, directory: Path, behind: float, has_hwclock: bool
) -> None:
    slow = [0.3, 0.2]  # a restored guest without KVM

    def late() -> None:
        if slow:
            time.sleep(slow.pop())

    offset = [behind]

    def get(_: dict[str, Any]) -> Any:
        late()
        return int((time.time() - offset[0]) * 1e9)

    def put(arguments: dict[str, Any]) -> Any:
        late()
        offset[0] = time.time() - arguments["time"] / 1e9
        if not has_hwclock:  # the real one sets the clock all the same
            raise LookupError("hwclock failed to set hardware clock to system time")
        return {}

    small.override["guest-get-time"] = get
    small.override["guest-set-time"] = put
    Agent(directory / "agent", "vm-001").set_time()
    assert abs(offset[0]) < 0.16
    sets = [name for name, _ in small.calls if name == "guest-set-time"]
    assert (not sets) == (behind == 0.0)
    assert "guest-exec" not in [name for name, _ in small.calls]


def test_the_clock_of_a_small_agent_is_set_by_date(small: SmallAgent, directory: Path) -> None:
    def unsupported(_: dict[str, Any]) -> Any:
        raise LookupError("this feature or command is not currently supported")

    given: list[list[str]] = []
    codes = [1, 0]  # the date of busybox refuses fractions

    def date(arguments: dict[str, Any]) -> Any:
        given.append([arguments["path"], *arguments["arg"]])
        return {"pid": 1}

    small.override["guest-get-time"] = unsupported
    small.override["guest-exec"] = date
    small.override["guest-exec-status"] = lambda _: {"exited": True, "exitcode": codes.pop(0)}
    agent = Agent(directory / "agent", "vm-001")
    agent.set_time()
    assert [words[:3] for words in given] == [["date", "-u", "-s"]] * 2
    exact, whole = (words[3] for words in given)
    assert re.fullmatch(r"@\d+\.\d{9}", exact)
    assert re.fullmatch(r"@\d+", whole)
    assert abs(float(exact[1:]) - time.time()) < 10
    codes += [1, 1]
    with pytest.raises(MachineError, match="vm-001"):
        agent.set_time()
