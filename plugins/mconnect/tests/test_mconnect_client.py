"""The client's counting, against a server on loopback that names itself in turn."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator

import pytest
from xk8s_mconnect.client import Tally, connect, parse_address
from xk8s_mconnect.command import report


@pytest.fixture
def server() -> Iterator[tuple[str, int]]:
    """Answers of three pods in turn; every tenth connection is closed without one."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def serve() -> None:
        for number in itertools.count(1):
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                if number % 10:
                    connection.sendall(f"pod-{number % 3}\n".encode())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def dial(address: str, port: int, *, timeout: float) -> socket.socket:
    return socket.create_connection((address, port), timeout)


def test_an_answerless_connection_is_a_failure(server: tuple[str, int]) -> None:
    tally = connect(dial, *server, nconn=60, parallel=4)
    assert tally.failed == 6
    assert tally.failures == {"closed without an answer": 6}
    assert sum(tally.answers.values()) == 54
    assert set(tally.answers) == {"pod-0", "pod-1", "pod-2"}
    assert tally.uneven(3) == ""
    assert tally.uneven(4) == "3 of 4 pods answered"


def test_refused_connections_are_counted_not_retried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    tally = connect(dial, "127.0.0.1", port, nconn=5)
    assert (tally.failed, tally.answers) == (5, {})
    assert "Connection refused" in report(tally)


def test_uneven_shares_name_the_pod() -> None:
    tally = Tally(connects=400, answers={"a": 151, "b": 83, "c": 83, "d": 83}, failures={})
    assert tally.uneven(4) == "a answered 151 times, its share is 100"
    even = Tally(connects=400, answers={"a": 150, "b": 50, "c": 100, "d": 100}, failures={})
    assert even.uneven(4) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10.0.0.2:5001", ("10.0.0.2", 5001)), ("[1000::2]:5001", ("1000::2", 5001))],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize("text", ["10.0.0.2", "1000::2:5001x", "host:99", "1.2.3.4:0", "[::1:80"])
def test_bad_addresses(text: str) -> None:
    with pytest.raises((ValueError, OSError)):
        parse_address(text)
