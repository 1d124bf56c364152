"""Free TCP ports of 127.0.0.1 for forwards into a VM."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from types import TracebackType

from xk8s.errors import HostError


class Reservation:
    """Ports held by listening sockets until QEMU is about to bind them itself.

    Two clusters that start at once cannot choose the same one. Between `close` and QEMU's bind
    somebody else may still take one: see `xk8s.machine.qemu.process.start`.
    """

    def __init__(self, preferred: Sequence[int]) -> None:
        """Return for each preferred port that port, or a free one if it is taken (or 0)."""
        self._sockets: list[socket.socket] = []
        try:
            for port in preferred:
                self._sockets.append(_bind(port))
        except BaseException:
            self.close()
            raise
        self.ports: tuple[int, ...] = tuple(s.getsockname()[1] for s in self._sockets)

    def close(self) -> None:
        """Let go of the ports."""
        while self._sockets:
            self._sockets.pop().close()

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()


def _bind(preferred: int) -> socket.socket:
    for port in (preferred, 0):
        candidate = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        # Connections in TIME_WAIT (a cluster went down a moment ago) do not make a port taken.
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(port != 0))
        with contextlib.suppress(OSError):
            candidate.bind(("127.0.0.1", port))
            # With that option two may bind one port, but only one of them may listen.
            candidate.listen(1)
            return candidate
        candidate.close()
    raise HostError("no free TCP port on 127.0.0.1", hint="stop programs that hold ports open")
