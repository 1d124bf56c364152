"""TCP ports of 127.0.0.1 for forwards into VMs."""

from __future__ import annotations

import contextlib
import socket

from xk8s.errors import HostError


def listen_on(preferred: int) -> socket.socket:
    """Return a socket that listens on that port, or on a free one if it is taken (or 0).

    It is held from here on: two clusters that start at once cannot choose the same one.
    """
    for port in (preferred, 0):
        candidate = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        # Connections in TIME_WAIT (a cluster went down a moment ago) do not make a port taken.
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(port != 0))
        with contextlib.suppress(OSError):
            candidate.bind(("127.0.0.1", port))
            # With that option two may bind one port, but only one of them may listen.
            candidate.listen(128)
            return candidate
        candidate.close()
    raise HostError("no free TCP port on 127.0.0.1", hint="stop programs that hold ports open")
