"""What the holder does for the host beside its namespace: ports that lead in, the host's own
addresses, logs that must not grow for ever. A socket stays in the network namespace in which it was
made, whoever has it: those of the host are handed to the holder.

Loaded by holder.py, by its path: only the standard library.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

Target = tuple[str, int]

_HEADER, _ADDRESS, _ATTRIBUTE = (
    struct.Struct("=IHHII"),
    struct.Struct("=BBBBI"),
    struct.Struct("=HH"),
)
_DONE, _NEW_ADDRESS, _GET_ADDRESS = 3, 20, 22
_REQUEST_DUMP = 0x301
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
ADDRESSES_V4 = 0x10
"""Group of the route socket that tells of new IPv4 addresses."""


class Forwards:
    """Ports of the host, and where in the namespace each of them leads."""

    def __init__(self) -> None:
        """None yet."""
        self._servers: dict[Target, socket.socket] = {}

    def host_port(self, target: Target) -> int | None:
        """Return the port of the host that leads there, if there is one."""
        server = self._servers.get(target)
        return server.getsockname()[1] if server else None

    def add(self, server: socket.socket, target: Target) -> None:
        """Connect to ``target`` whoever connects to ``server``, a listening socket of the host."""
        self.forget(*target)
        self._servers[target] = server
        threading.Thread(target=_accept, args=(server, target), daemon=True).start()

    def forget(self, address: str, port: int | None = None) -> None:
        """Close what leads to an address (and port)."""
        for target in list(self._servers):
            if target[0] == address and port in (None, target[1]):
                server = self._servers.pop(target)
                with contextlib.suppress(OSError):
                    server.shutdown(socket.SHUT_RDWR)  # its thread wakes up
                server.close()


def _accept(server: socket.socket, target: Target) -> None:
    while True:
        try:
            stream, _ = server.accept()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ECONNABORTED):
                return
            time.sleep(0.1)  # no descriptor is free: one connection ends, not the port
            continue
        threading.Thread(target=_connect, args=(stream, target), daemon=True).start()


def _connect(stream: socket.socket, target: Target) -> None:
    with stream:
        try:
            far = socket.create_connection(target)
        except OSError:
            # A reset, as of a port that nobody listens on.
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        with far:
            back = threading.Thread(target=_copy, args=(far, stream), daemon=True)
            back.start()
            _copy(stream, far)
            back.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Copy to the end of the stream, and pass that on. The kernel moves the bytes."""
    try:
        reader, writer = os.pipe()
        try:
            while count := os.splice(source.fileno(), writer, 1 << 20):
                while count:
                    count -= os.splice(reader, sink.fileno(), count)
        finally:
            os.close(reader)
            os.close(writer)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for broken in (source, sink):
            with contextlib.suppress(OSError):
                broken.shutdown(socket.SHUT_RDWR)


def follow_addresses(host: socket.socket, tell: Callable[[str], None]) -> None:
    """Tell of each IPv4 address of the host, through a route socket (`ADDRESSES_V4`) that was made
    there: those that it has before this returns, later ones as they come.
    """
    size = _HEADER.size + _ADDRESS.size
    header = _HEADER.pack(size, _GET_ADDRESS, _REQUEST_DUMP, 1, 0)
    host.send(header + _ADDRESS.pack(socket.AF_INET, 0, 0, 0, 0))
    while not _told(host, tell):
        pass

    def follow() -> None:
        while True:
            try:
                _told(host, tell)
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # too many at once: some were missed
                    return
                host.send(header + _ADDRESS.pack(socket.AF_INET, 0, 0, 0, 0))

    threading.Thread(target=follow, daemon=True).start()


def _told(host: socket.socket, tell: Callable[[str], None]) -> bool:
    """Read once; return whether the list that was asked for has ended."""
    data = host.recv(1 << 16)
    ended = False
    while len(data) >= _HEADER.size:
        size, kind, *_ = _HEADER.unpack_from(data)
        if kind == _DONE:
            ended = True
        elif kind == _NEW_ADDRESS:
            for address in _addresses(data[_HEADER.size + _ADDRESS.size : size]):
                tell(address)
        data = data[(size + 3) & ~3 :]
    return ended


def _addresses(data: bytes) -> Iterator[str]:
    while len(data) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(data)
        if kind == _IFA_LOCAL or (kind == _IFA_ADDRESS and size == _ATTRIBUTE.size + 4):
            yield socket.inet_ntoa(data[_ATTRIBUTE.size : size])
        data = data[(size + 3) & ~3 :]


def bound_logs(directory: str, most: int, seconds: float) -> None:
    """Look at the logs of a directory now and then, and cut those that have become longer than
    ``most`` bytes. Whoever writes them appends to what is left.
    """

    def bound() -> None:
        while True:
            for path in Path(directory).glob("*.log"):
                with contextlib.suppress(OSError):
                    _cut(path, most)
            time.sleep(seconds)

    threading.Thread(target=bound, daemon=True).start()


def _cut(path: Path, most: int) -> None:
    """Keep the last quarter of what is allowed, from the beginning of a line."""
    if path.lstat().st_size <= most:
        return
    with path.open("rb") as file:
        file.seek(-(most // 4), os.SEEK_END)
        rest = file.read(most // 4)
    with path.open("ab") as file:
        file.truncate(0)
        file.write(rest[rest.find(b"\n") + 1 :])
