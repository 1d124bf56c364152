"""The client: open connections to an address, and count who answered."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from attrs import frozen


class Dial(Protocol):
    """`xk8s.context.ClusterAccess.dial`."""

    def __call__(self, address: str, port: int, *, timeout: float) -> socket.socket:
        """Return a connected socket, or raise OSError."""


@frozen(kw_only=True)
class Tally:
    """Result of ``connects`` attempts: answers per pod name, failures per reason.

    A connection without a name in the answer is a failure too: nobody answered it.
    """

    connects: int
    answers: dict[str, int]
    failures: dict[str, int]

    @property
    def failed(self) -> int:
        """Number of failed attempts."""
        return sum(self.failures.values())

    def uneven(self, pods: int, tolerance: float = 0.5) -> str:
        """Return why the answers are not spread over ``pods`` pods, each within ±tolerance of its
        equal share; or an empty string.
        """
        if len(self.answers) != pods:
            return f"{len(self.answers)} of {pods} pods answered"
        share = sum(self.answers.values()) / pods
        for pod, count in sorted(self.answers.items()):
            if abs(count - share) > tolerance * share:
                return f"{pod} answered {count} times, its share is {share:.0f}"
        return ""


def connect(
    dial: Dial,
    address: str,
    port: int,
    *,
    nconn: int,
    parallel: int = 8,
    timeout: float = 10.0,
    progress: Callable[[int], None] = lambda _: None,
) -> Tally:
    """Make ``nconn`` connections, ``parallel`` at a time, never one twice. ``timeout`` is for
    the connect and for the answer, in seconds; ``progress`` gets the number of finished ones.
    """
    answers: Counter[str] = Counter()
    failures: Counter[str] = Counter()

    def attempt(_: int) -> tuple[str, str]:
        try:
            with dial(address, port, timeout=timeout) as connection:
                connection.settimeout(timeout)
                name = _read(connection)
        except OSError as error:
            return "", str(error.strerror or error) or type(error).__name__
        return name, "" if name else "closed without an answer"

    with ThreadPoolExecutor(max_workers=parallel) as pool:
        for done, (name, failure) in enumerate(pool.map(attempt, range(nconn)), 1):
            if failure:
                failures[failure] += 1
            else:
                answers[name] += 1
            progress(done)
    return Tally(
        connects=nconn,
        answers=dict(sorted(answers.items())),
        failures=dict(sorted(failures.items())),
    )


def parse_address(text: str) -> tuple[str, int]:
    """Return ``10.0.0.2:5001`` or ``[1000::2]:5001`` as (address, port); ValueError otherwise."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is not address:port")
    if host.startswith("[") and host.endswith("]"):
        socket.inet_pton(socket.AF_INET6, host[1:-1])
        return host[1:-1], int(port)
    socket.inet_pton(socket.AF_INET, host)
    return host, int(port)


def _read(connection: socket.socket) -> str:
    data = b""
    while chunk := connection.recv(256):
        data += chunk
        if len(data) > 4096:
            raise OSError("the answer is not a host name")
    return data.decode(errors="replace").strip()
