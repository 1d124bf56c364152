"""What guests answer is data: a bad answer is an error that names the VM, never a bug of ours."""

from __future__ import annotations

import itertools
import json
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from xk8s.context import ExecResult
from xk8s.errors import MachineError
from xk8s.machine.qemu import agent as client
from xk8s.machine.qemu.agent import Agent
from xk8s.util.console_text import without_controls

SENTINEL = b"\xff"


@contextmanager
def guest(
    answer: Callable[[str], bytes | Iterator[bytes]], *, in_step: bool = True
) -> Iterator[Path]:
    """The socket of an agent that answers as it likes, after it has answered the first line."""
    with tempfile.TemporaryDirectory(prefix="xk8s-") as name:
        path = Path(name) / "agent"
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        server.listen(8)

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    talk(connection)

        def talk(connection: socket.socket) -> None:
            data = b""
            try:
                while chunk := connection.recv(1 << 16):
                    data += chunk
                    while b"\n" in data:
                        line, _, data = data.partition(b"\n")
                        request = json.loads(line.rpartition(SENTINEL)[2])
                        if request["execute"] == "guest-sync-delimited" and in_step:
                            number = {"return": request["arguments"]["id"]}
                            connection.sendall(SENTINEL + json.dumps(number).encode() + b"\n")
                        else:
                            said = answer(request["execute"])
                            for part in [said] if isinstance(said, bytes) else said:
                                connection.sendall(part)
            except OSError:
                return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield path
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(20)
            server.close()
            assert not thread.is_alive()


COMMANDS: dict[str, Callable[[Agent], object]] = {
    "ping": lambda agent: agent.ping(),
    "exec": lambda agent: agent.exec(["x"], timeout=0.1),
    "write": lambda agent: agent.write_file("/x", b"abc"),
    "read": lambda agent: agent.read_file("/x"),
    "set time": lambda agent: agent.set_time(0.1),
    "wait": lambda agent: agent.wait(0.1),
}

VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
        st.sampled_from(["\x1b[2J", "YWJj", "%%%", 10**400, -1, 1 << 63, "Infinity"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)  # fmt: skip
FIELDS = st.sampled_from(
    ["pid", "exited", "exitcode", "signal", "out-data", "err-data", "out-truncated", "count",
     "buf-b64", "eof"]
)  # fmt: skip
SOUND = st.sampled_from(
    [{"pid": 1}, {"exited": True, "exitcode": 0}, {"exited": False}, {"count": 3, "eof": True},
     {"count": 3, "buf-b64": "YWJj", "eof": False}, 7, {}]
)  # fmt: skip
RESULTS = st.one_of(
    VALUES,
    SOUND,
    st.builds(lambda base, key, value: {**base, key: value},
              SOUND.filter(lambda value: isinstance(value, dict)), FIELDS, VALUES),
)  # fmt: skip
REPLIES = st.one_of(
    RESULTS.map(lambda value: {"return": value}),
    VALUES.map(lambda value: {"error": value}),
    VALUES.map(lambda value: {"error": {"class": value, "desc": value}}),
    VALUES,
)
LINES = st.one_of(
    REPLIES.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=30).filter(lambda data: b"\n" not in data),
    st.sampled_from([b"[" * 100_000, b'{"return": ' + b"9" * 5000 + b"}", b"", b"\xff", b"\0"]),
)


@pytest.mark.parametrize("command", COMMANDS)
@given(answers=st.lists(LINES, min_size=1, max_size=4))
@example(answers=[b'{"return": {"pid": 1}}', b'{"return": {"exited": true, "exitcode": "x"}}'])
@example(answers=[b'{"return": {"exited": true}}'])
@example(answers=[b"[]"])
@example(answers=[b'{"error": "x"}'])
@example(answers=[b'{"return": 7}', b'{"return": {"buf-b64": "%", "count": 1, "eof": true}}'])
@settings(max_examples=100)
def test_a_hundred_bad_answers(command: str, answers: list[bytes]) -> None:
    left = [*answers]

    def answer(_: str) -> bytes:
        return (left.pop(0) if len(left) > 1 else left[0]) + b"\n"

    with guest(answer) as path:
        result: object = None
        said = "vm-007"
        try:
            result = COMMANDS[command](Agent(path, "vm-007", timeout=0.3))
        except (MachineError, TimeoutError) as error:
            said = str(error)
        assert "vm-007" in said
        assert len(said) < 1000
        assert said == without_controls(said)
        assert result is None or isinstance(result, (ExecResult, bytes))
        if isinstance(result, ExecResult):
            assert isinstance(result.exit_code, int)
            assert 0 <= result.exit_code <= 255


def test_an_answer_without_end_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_MAX_ANSWER", 5 << 20)
    flood = itertools.repeat(b"x" * (1 << 20))
    with (
        guest(lambda _: flood) as path,
        pytest.raises(MachineError, match=r"vm-001: .* longer than 5 MiB"),
    ):
        Agent(path, "vm-001").ping()


def test_a_file_without_end_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_FILE", 1 << 20)
    piece = json.dumps({"return": {"count": 3 << 17, "buf-b64": "YWJj" * (1 << 17), "eof": False}})

    def endless(command: str) -> bytes:
        return piece.encode() + b"\n" if command == "guest-file-read" else b'{"return": 1}\n'

    with guest(endless) as path, pytest.raises(MachineError, match=r"vm-001: /x: larger than 1 M"):
        Agent(path, "vm-001").read_file("/x")


@pytest.mark.parametrize("line", [b"x\n", b'\xff{"return": 1}\n', b"\xff\xff\n", b"\xff[1]\n"])
def test_a_guest_that_talks_and_never_answers_is_silent(line: bytes) -> None:
    endless = itertools.repeat(line * 1000)
    with (
        guest(lambda _: endless, in_step=False) as path,
        pytest.raises(MachineError, match="vm-001: the guest agent does not answer"),
    ):
        Agent(path, "vm-001", timeout=0.3).ping()


def test_words_of_a_guest_in_an_error_cannot_move_the_cursor() -> None:
    reply: dict[str, Any] = {"error": {"desc": "\x1b]0;owned\x07\x1b[2Jno such\x9b1m file\nat all"}}
    answer = json.dumps(reply).encode() + b"\n"
    with guest(lambda _: answer) as path, pytest.raises(MachineError) as caught:
        Agent(path, "vm-001").ping()
    assert str(caught.value) == "vm-001: guest-ping: no such1m file at all"
