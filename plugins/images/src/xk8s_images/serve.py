"""A registry for one transfer: read-only, in the cluster's network namespace, below a path that
nobody can guess.

Guests reach it by the gateway address of their management network. It speaks as much of the
distribution specification 1.1 (https://github.com/opencontainers/distribution-spec) as it takes to
pull.
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from attrs import frozen
from xk8s.image_reference import split_ref

from xk8s_images.layout import blob_path, manifest_of
from xk8s_images.loader import ServerPort

_IDLE = 60.0
"""Seconds after which a silent connection is closed."""

_PIECE = 1 << 16


@frozen(kw_only=True)
class ServedImage:
    """An image to serve: its full reference and its OCI layout directory."""

    ref: str
    layout: Path


@frozen
class _Answer:
    """Content at a path: a file, and its type."""

    path: Path
    kind: str
    digest: str


class ImageServer:
    """Server for the duration of `serving`. ``doors`` has one per client's name."""

    def __init__(
        self, offers: Sequence[ServedImage], clients: Sequence[str], server: socket.socket
    ) -> None:
        """Answer what connects to ``server``, which is closed in the end."""
        self._by_path: dict[str, ServerPort] = {}
        handler = _handler(dict(_answers(offers)), self._by_path)
        address, port = server.getsockname()
        self._server = ThreadingHTTPServer((address, port), handler, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = server
        self._server.daemon_threads = True  # a client that hangs must not keep us
        self.doors: Mapping[str, ServerPort] = {
            client: ServerPort(port=port, path=secrets.token_hex(16)) for client in clients
        }
        self._by_path.update({door.path: door for door in self.doors.values()})
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()

    def refuse(self) -> None:
        """Close all doors: what is being sent breaks off, and nothing is served any more. That
        answer ends a client at once, whereas no answer would make it try again.
        """
        self._by_path.clear()

    def close(self) -> None:
        """Close the port too."""
        self.refuse()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def serving(
    offers: Sequence[ServedImage], clients: Sequence[str], server: socket.socket
) -> Iterator[ImageServer]:
    """Serve ``offers`` on ``server`` while the block runs, to ``clients`` (at least one name)."""
    registry = ImageServer(offers, clients, server)
    try:
        yield registry
    finally:
        registry.close()


def _answers(offers: Sequence[ServedImage]) -> Iterator[tuple[str, _Answer]]:
    """Map paths behind the door to answers."""
    for offer in offers:
        name, tag, digest = split_ref(offer.ref)
        descriptor = manifest_of(offer.layout)
        path = blob_path(offer.layout, descriptor["digest"])
        document = json.loads(path.read_bytes())
        kind = document.get("mediaType") or descriptor["mediaType"]
        for called in {tag, digest, descriptor["digest"]} - {""}:
            yield f"{name}/manifests/{called}", _Answer(path, kind, descriptor["digest"])
        for blob in (document["config"], *document["layers"]):
            path = blob_path(offer.layout, blob["digest"])
            yield (
                f"{name}/blobs/{blob['digest']}",
                _Answer(path, "application/octet-stream", blob["digest"]),
            )


def _handler(
    answers: Mapping[str, _Answer], doors: Mapping[str, ServerPort]
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = _IDLE

        def log_message(self, *_: object) -> None:
            """Say nothing: paths are secrets, and stderr is for progress."""

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, *, body: bool) -> None:
            path = self.path.partition("?")[0]
            if path.rstrip("/") == "/v2" and doors:  # clients ask first: is it a registry?
                self._head(200, 2, "application/json")
                if body:
                    self.wfile.write(b"{}")
                return
            first, _, rest = path.removeprefix("/v2/").partition("/")
            door = doors.get(first) if path.startswith("/v2/") else None
            found = answers.get(rest) if door else None
            if door is None or found is None:
                self._head(404, 0, "text/plain")
                return
            with found.path.open("rb") as stream:
                self._head(200, found.path.stat().st_size, found.kind, found.digest)
                if not body:
                    return
                while piece := stream.read(_PIECE):
                    if first not in doors:
                        self.close_connection = True
                        return
                    self.wfile.write(piece)
                    door.count(len(piece))

        def _head(self, status: int, size: int, kind: str, digest: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(size))
            if digest:
                self.send_header("Docker-Content-Digest", digest)
            self.end_headers()

    return Handler
