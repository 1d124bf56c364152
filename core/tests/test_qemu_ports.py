"""Which host ports a VM gets."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from xk8s.machine.qemu.ports import Reservation


def port_in_time_wait() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            accepted.close()  # the side that closes first waits
            assert client.recv(1) == b""
    return port


def test_preferred_port_or_a_free_one() -> None:
    with Reservation((0,)) as first:
        port = first.ports[0]
        with Reservation((port, 0)) as second:
            assert port not in second.ports
            assert 0 not in second.ports
            assert len(set(second.ports)) == 2
    with Reservation((port,)) as third:
        assert third.ports == (port,)
    with socket.create_server(("127.0.0.1", port)), Reservation((port,)) as fourth:
        assert fourth.ports != (port,)


def test_port_whose_connections_are_in_time_wait_is_given() -> None:
    port = port_in_time_wait()
    with socket.socket() as plain, pytest.raises(OSError, match="in use"):
        plain.bind(("127.0.0.1", port))  # or this test would prove nothing
    with Reservation((port,)) as reservation:
        assert reservation.ports == (port,)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_port_that_somebody_listens_on_is_not_given(address: str) -> None:
    with socket.create_server((address, 0)) as other:
        port = other.getsockname()[1]
        with Reservation((port,)) as reservation:
            assert reservation.ports[0] not in (0, port)


def test_one_reservation_asked_twice_for_a_port_gives_two() -> None:
    port = port_in_time_wait()
    with Reservation((port, port)) as reservation:
        assert reservation.ports[0] == port
        assert reservation.ports[1] not in (0, port)


def test_reservations_at_once_never_share_a_port() -> None:
    wanted = [port_in_time_wait() for _ in range(20)]
    together = threading.Barrier(4)

    def reserve(_: int) -> Reservation:
        together.wait()
        return Reservation(wanted)

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(reserve, range(4)))
    given = [port for reservation in made for port in reservation.ports]
    for reservation in made:
        reservation.close()
    assert len(set(given)) == len(given) == 80
