"""An HTTP client that goes to https alone, gives up early, and says what failed."""

from __future__ import annotations

import functools
import json
import socket
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

import urllib3

from xk8s.errors import SourceFailed
from xk8s.util.log import get_logger

log = get_logger(__name__)

CONNECT = 3.0
"""Seconds to reach a host, name look-up included (a dead resolver takes far longer)."""


STALL = 20.0
"""Seconds without a byte after which a download is given up."""


LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
"""The only hosts to which plain http goes."""


_REDIRECTS = 10

_unreachable: dict[tuple[str, int], str] = {}
"""Hosts that did not answer in this process: asking again would cost the same seconds."""


_probing = threading.Lock()


class HttpError(Exception):
    """Why a request failed, in a few words: an HTTP status, a time-out, a broken connection."""


class Answer:
    """The answer to a request; its body is read by `iter_bytes`, or at once by `content`."""

    def __init__(self, raw: urllib3.BaseHTTPResponse) -> None:
        """``raw`` has not been read yet."""
        self._raw = raw
        self.status = raw.status
        self.headers = raw.headers

    def raise_for_status(self) -> None:
        """Raise `HttpError` unless the status is one of success."""
        if not 200 <= self.status < 300:
            raise HttpError(f"HTTP {self.status}")

    def iter_bytes(self, size: int) -> Iterator[bytes]:
        """Yield the body in pieces of at most ``size`` bytes; `HttpError` when it breaks off."""
        with _errors():
            yield from self._raw.stream(size)

    @functools.cached_property
    def content(self) -> bytes:
        """The whole body."""
        return b"".join(self.iter_bytes(1 << 16))

    @property
    def text(self) -> str:
        """The whole body as UTF-8."""
        return self.content.decode(errors="replace")

    def json(self) -> Any:
        """Return the body as JSON data; ValueError when it is not JSON."""
        return json.loads(self.content)


class Client:
    """Sends GET requests. ``headers`` go with each; `SourceFailed` and `HttpError` are raised."""

    def __init__(self) -> None:
        """Opens no connection yet."""
        self.headers = {"User-Agent": "xk8s", "Accept-Encoding": "identity"}
        self._pools: dict[str, urllib3.PoolManager] = {}

    def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> Answer:
        """Return the answer, its body read."""
        with self.stream(url, headers=headers) as answer:
            answer.content  # noqa: B018 - read while the connection is open
        return answer

    @contextmanager
    def stream(self, url: str, *, headers: Mapping[str, str] | None = None) -> Iterator[Answer]:
        """Yield the answer once its headers came. Redirects are followed; each is checked."""
        given = {**self.headers, **(headers or {})}
        for _ in range(_REDIRECTS):
            raw = self._send(url, given)
            target = raw.get_redirect_location()
            if not target:
                try:
                    yield Answer(raw)
                finally:
                    raw.close()
                return
            raw.drain_conn()
            before, url = url, urljoin(url, target)
            if urlsplit(url).netloc != urlsplit(before).netloc:
                given.pop("Authorization", None)  # it is for the first host alone
        raise HttpError("too many redirects")

    def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.clear()

    def _send(self, url: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        shown = loggable_url(url)
        with log.timed("http_request", method="GET", url=shown) as result, _errors():
            check_url(url)
            probe(url)
            log.debug("http_request_sent", method="GET", url=shown, range=headers.get("Range", ""))
            raw = self._pool(url).request(
                "GET", url, headers=headers, redirect=False, retries=False, preload_content=False,
                timeout=urllib3.Timeout(connect=CONNECT, read=STALL),
            )  # fmt: skip
            result["status"] = raw.status
            result["size"] = raw.headers.get("Content-Length", "")
        return raw

    def _pool(self, url: str) -> urllib3.PoolManager:
        proxy = _proxy(url)
        if proxy not in self._pools:
            self._pools[proxy] = _proxy_pool(proxy) if proxy else urllib3.PoolManager()
        return self._pools[proxy]


def _proxy_pool(proxy: str) -> urllib3.ProxyManager:
    user = urllib3.util.parse_url(proxy).auth
    headers = urllib3.make_headers(proxy_basic_auth=user) if user else None
    return urllib3.ProxyManager(proxy, proxy_headers=headers)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except urllib3.exceptions.ReadTimeoutError as error:
        raise HttpError(f"no data for {STALL:.0f} s") from error
    except urllib3.exceptions.HTTPError as error:
        raise HttpError(str(error) or type(error).__name__) from error


@contextmanager
def client() -> Iterator[Client]:
    """Yield a client that refuses plain http and soon gives up."""
    made = Client()
    try:
        yield made
    finally:
        made.close()


def check_url(url: str) -> None:
    """`SourceFailed` unless it is https, or http to this machine. Redirects count too."""
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK):
        return
    raise SourceFailed(f"{loggable_url(url)} is not https")


def loggable_url(url: str) -> str:
    """Return the URL without user, password and query, where tokens are in signed addresses."""
    parts = urlsplit(url)
    bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    return f"{bare}?…" if parts.query else bare


def probe(url: str) -> None:
    """`SourceFailed` when the host does not accept a connection within `CONNECT` seconds, or
    did not before. Behind a proxy the proxy is the one to tell.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host not in LOOPBACK and _proxy(url):
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = (host, port)
    with _probing:  # one pays the seconds, the others wait for what it finds
        if address not in _unreachable:
            reason = _connect(address)
            if reason:
                _unreachable[address] = reason
    if address in _unreachable:
        raise SourceFailed(f"{host}:{port} is not reachable: {_unreachable[address]}")


def _proxy(url: str) -> str:
    """Return the URL of the proxy that the environment names for ``url``, or ""."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all") or ""
    return "" if urllib.request.proxy_bypass(parts.hostname or "") else found


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


def url_file_name(url: str) -> str:
    """Return the last part of a URL's path."""
    return PurePosixPath(urlsplit(url).path).name
