"""Docker's own store, by its API on a unix socket (podman's service speaks it too).

https://docs.docker.com/reference/api/engine/ : without a version in the path the daemon uses its
newest one; nothing here has changed since its first.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import quote

from xk8s.errors import HostError, UsageError

_SECONDS = 60.0
"""Timeout of each answer: to save a large image takes the daemon a while before its first byte."""

_PIECE = 1 << 20


class _Connection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(self._path)


def socket_path() -> str:
    """Return where the daemon listens: $DOCKER_HOST, or docker's usual places."""
    host = os.environ.get("DOCKER_HOST", "")
    if host:
        if not host.startswith("unix://"):
            raise UsageError(
                f"docker is used through its unix socket only, not {host!r}",
                where="DOCKER_HOST",
                hint="`docker save` writes an archive: use docker-archive:FILE",
            )
        return host.removeprefix("unix://")
    own = Path(os.environ.get("XDG_RUNTIME_DIR", "/nonexistent")) / "docker.sock"
    system = Path("/var/run/docker.sock")
    return str(own if own.exists() and not system.exists() else system)


def image_id(name: str) -> str:
    """Return the ID, ``sha256:…``, of the image that docker knows by this full reference."""
    with _connected() as connection:
        answer = _get(connection, f"/images/{quote(name)}/json")
        body = answer.read()
        if answer.status == 404:
            raise UsageError(
                f"docker has no image {name}",
                where=socket_path(),
                hint="`docker images` lists them",
            )
        _check(answer, body)
        return str(json.loads(body)["Id"])


def save(identity: str, target: Path, told: Callable[[int], None]) -> None:
    """Write the image to ``target`` as `docker save` does; ``told`` gets the bytes so far and
    may raise to stop.
    """
    with _connected() as connection:
        answer = _get(connection, f"/images/{quote(identity)}/get")
        if answer.status != 200:
            _check(answer, answer.read())
        done = 0
        with target.open("wb") as sink:
            while piece := answer.read(_PIECE):
                sink.write(piece)
                done += len(piece)
                told(done)
        if answer.length:  # the connection broke off; http.client does not mind
            raise HTTPException(f"{answer.length} bytes of the image are missing")


class _connected:  # noqa: N801 - used as a function
    """Open a connection to the daemon; its errors become ours."""

    def __enter__(self) -> _Connection:
        self._connection = _Connection(socket_path())
        return self._connection

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._connection.close()
        if isinstance(error, (OSError, HTTPException, ValueError, KeyError, TypeError)):
            hint = (
                "start docker; or use docker-archive:FILE, or the REF@sha256:… of an earlier plan"
            )
            if isinstance(error, PermissionError):
                hint = "this user may not use docker: usermod --append --groups docker USER"
            raise HostError(
                f"docker does not answer: {error}", where=socket_path(), hint=hint
            ) from error


def _get(connection: _Connection, path: str) -> HTTPResponse:
    connection.request("GET", path)
    return connection.getresponse()


def _check(answer: HTTPResponse, body: bytes) -> None:
    if answer.status != 200:
        try:
            said = json.loads(body)["message"]
        except (ValueError, KeyError, TypeError):
            said = body[:200].decode(errors="replace")
        raise HostError(f"docker answers {answer.status}: {said}", where=socket_path())
