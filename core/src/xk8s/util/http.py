"""An HTTP client that goes to https alone, gives up early, and says what failed."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import httpx2

from xk8s.errors import SourceFailed
from xk8s.util.log import get_logger

log = get_logger(__name__)

CONNECT = 3.0
"""Seconds to reach a host, name look-up included (a dead resolver takes far longer)."""


STALL = 20.0
"""Seconds without a byte after which a download is given up."""


LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
"""The only hosts to which plain http goes."""


_unreachable: dict[tuple[str, int], str] = {}
"""Hosts that did not answer in this process: asking again would cost the same seconds."""


_probing = threading.Lock()


def check_url(url: httpx2.URL | str) -> None:
    """`SourceFailed` unless it is https, or http to this machine. Redirects count too."""
    parts = urlsplit(str(url))
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK):
        return
    raise SourceFailed(f"{url} is not https")


@contextmanager
def client() -> Iterator[httpx2.Client]:
    """An HTTP client that refuses plain http, soon gives up, and turns its errors into
    `SourceFailed`.
    """

    def before(request: httpx2.Request) -> None:
        check_url(request.url)
        probe(request.url)

    with _Client(
        timeout=httpx2.Timeout(STALL, connect=CONNECT),
        follow_redirects=True,
        event_hooks={"request": [before]},
        headers={"User-Agent": "xk8s", "Accept-Encoding": "identity"},
    ) as http:
        yield http


class _Client(httpx2.Client):
    """A client that logs each request with what came of it."""

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """As httpx2 does. The time of a streamed answer is that until its headers came."""
        url = loggable_url(request.url)
        log.debug("http_request_sent", method=request.method, url=url,
                  range=request.headers.get("Range", ""))  # fmt: skip
        with log.timed("http_request", method=request.method, url=url) as result:
            answer = super().send(request, **options)
            result["status"] = answer.status_code
            result["size"] = answer.headers.get("Content-Length", "")
            if answer.history:
                result["redirected_to"] = loggable_url(answer.url)
        return answer


def loggable_url(url: httpx2.URL) -> str:
    """The URL without user, password and query: tokens stand there, as in signed addresses."""
    bare = url.copy_with(userinfo=b"", query=None, fragment=None)
    return f"{bare}?…" if url.query else str(bare)


def probe(url: httpx2.URL) -> None:
    """`SourceFailed` when the host does not accept a connection within `CONNECT` seconds, or
    did not before. Behind a proxy the proxy is the one to tell.
    """
    if url.host not in LOOPBACK and _proxied(url):
        return
    port = url.port or (443 if url.scheme == "https" else 80)
    address = (url.host, port)
    with _probing:  # one pays the seconds, the others wait for what it finds
        if address not in _unreachable:
            reason = _connect(address)
            if reason:
                _unreachable[address] = reason
    if address in _unreachable:
        raise SourceFailed(f"{url.host}:{port} is not reachable: {_unreachable[address]}")


def _proxied(url: httpx2.URL) -> bool:
    proxies = urllib.request.getproxies()
    found = url.scheme in proxies or "all" in proxies
    return found and not urllib.request.proxy_bypass(url.host)


def _connect(address: tuple[str, int]) -> str:
    said = [f"no answer within {CONNECT:.0f} s"]

    def attempt() -> None:
        try:
            socket.create_connection(address, timeout=CONNECT).close()
            said[0] = ""
        except OSError as error:
            said[0] = str(error)

    # getaddrinfo has no timeout and cannot be interrupted: leave it to a thread.
    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(CONNECT)
    return said[0]


def describe_error(error: httpx2.HTTPError) -> str:
    """An HTTP client's error in a few words."""
    if isinstance(error, httpx2.HTTPStatusError):
        return f"HTTP {error.response.status_code}"
    if isinstance(error, httpx2.ReadTimeout):
        return f"no data for {STALL:.0f} s"
    return str(error) or type(error).__name__


def url_file_name(url: str) -> str:
    """Return the last part of a URL's path."""
    return PurePosixPath(urlsplit(url).path).name
