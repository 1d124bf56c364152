"""Which host ports a VM gets."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from xk8s.machine.net.host_ports import listen_on


def port_in_time_wait() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            accepted.close()  # the side that closes first waits
            assert client.recv(1) == b""
    return port


def port_of(server: socket.socket) -> int:
    return int(server.getsockname()[1])


def test_preferred_port_or_a_free_one() -> None:
    with listen_on(0) as first:
        port = port_of(first)
        with listen_on(port) as second, listen_on(0) as third:
            assert port not in (port_of(second), port_of(third))
            assert 0 not in (port_of(second), port_of(third))
            assert port_of(second) != port_of(third)
    with listen_on(port) as fourth:
        assert port_of(fourth) == port
    with socket.create_server(("127.0.0.1", port)), listen_on(port) as fifth:
        assert port_of(fifth) != port


def test_nobody_but_this_machine_reaches_it() -> None:
    with listen_on(0) as server:
        assert server.getsockname()[0] == "127.0.0.1"


def test_port_whose_connections_are_in_time_wait_is_given() -> None:
    port = port_in_time_wait()
    with socket.socket() as plain, pytest.raises(OSError, match="in use"):
        plain.bind(("127.0.0.1", port))  # or this test would prove nothing
    with listen_on(port) as server:
        assert port_of(server) == port


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_port_that_somebody_listens_on_is_not_given(address: str) -> None:
    with socket.create_server((address, 0)) as other:
        port = other.getsockname()[1]
        with listen_on(port) as server:
            assert port_of(server) not in (0, port)


def test_asked_twice_for_a_port_it_gives_two() -> None:
    port = port_in_time_wait()
    with listen_on(port) as first, listen_on(port) as second:
        assert port_of(first) == port
        assert port_of(second) not in (0, port)


def test_those_who_ask_at_once_never_share_a_port() -> None:
    wanted = [port_in_time_wait() for _ in range(20)]
    together = threading.Barrier(4)

    def ask(_: int) -> list[socket.socket]:
        together.wait()
        return [listen_on(port) for port in wanted]

    with ThreadPoolExecutor(4) as pool:
        made = [server for servers in pool.map(ask, range(4)) for server in servers]
    given = [port_of(server) for server in made]
    for server in made:
        server.close()
    assert len(set(given)) == len(given) == 80
