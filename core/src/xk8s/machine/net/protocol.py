"""The wire between a namespace's client and its holder: JSON lines and descriptors."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xk8s.errors import HostError, MachineError


class RefusedError(HostError):
    """The holder's answer was no; ``number`` is its errno."""

    number = 0


class Channel:
    """A connection to the holder. Answers may arrive joined or in pieces."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._buffer = b""
        try:
            self.socket.connect(str(path))
        except OSError as error:
            self.socket.close()
            raise gone(str(path), error) from error

    def ask(
        self, request: Mapping[str, Any], fds: Sequence[int] = (), *, patience: float
    ) -> tuple[dict[str, Any], list[int]]:
        """Send one request with descriptors; its answer and the descriptors beside it."""
        data = json.dumps(request).encode() + b"\n"
        self.socket.settimeout(patience)
        try:
            sent = socket.send_fds(self.socket, [data], list(fds)) if fds else 0
            self.socket.sendall(data[sent:])
        except OSError as error:
            raise gone(str(request["op"]), error) from error
        reply, received = self.receive(patience)
        if not reply["ok"]:
            refused = RefusedError(str(reply["error"]), where=f"network namespace: {request['op']}")
            refused.number = int(reply["errno"])
            raise refused
        return reply, received

    def receive(self, patience: float | None) -> tuple[dict[str, Any], list[int]]:
        """Return the next answer. TimeoutError past ``patience`` seconds (None: wait for ever)."""
        fds: list[int] = []
        self.socket.settimeout(patience)
        while b"\n" not in self._buffer:
            try:
                chunk, more, _, _ = socket.recv_fds(self.socket, 65536, 4)
            except (TimeoutError, BlockingIOError):
                raise TimeoutError(f"no answer within {patience} s") from None
            except OSError as error:
                raise gone("reading", error) from error
            for fd in more:
                os.set_inheritable(fd, False)  # recv_fds of Python 3.11 ignores its flags
                fds.append(fd)
            if not chunk:
                raise gone("reading", ConnectionResetError("connection closed"))
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        reply = json.loads(line)
        assert isinstance(reply, dict)
        return reply, fds

    def close(self) -> None:
        """Closing it ends a command that `exec` started on it."""
        self.socket.close()

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def gone(where: str, error: OSError) -> MachineError:
    """Return what to raise when the holder cannot be asked."""
    return MachineError(
        f"the cluster's network namespace does not answer: {error.strerror or error}",
        where=where,
        hint="xk8s down, then xk8s up",
    )
