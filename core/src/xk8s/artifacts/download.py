"""`Release`: a download that counts only when its published checksum agrees."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import httpx2
from filelock import FileLock

from xk8s.artifacts.kit import Kit, Provenance, SourceFailed
from xk8s.artifacts.model import Release
from xk8s.artifacts.tree import content_digest
from xk8s.artifacts.unpack import find_in, unpack

CONNECT = 3.0
"""Seconds to reach a host, name look-up included (a dead resolver takes far longer)."""

STALL = 20.0
"""Seconds without a byte after which a download is given up."""

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
"""The only hosts to which plain http goes."""

_ALGORITHMS = {64: "sha256", 128: "sha512"}

_unreachable: dict[tuple[str, int], str] = {}
"""Hosts that did not answer in this process: asking again would cost the same seconds."""
_probing = threading.Lock()


def provide(source: Release, wanted: frozenset[str], kit: Kit) -> list[Provenance]:
    """Download (resuming), compare, unpack, take the members."""
    if kit.offline:
        raise SourceFailed("not asked (offline)")
    with client() as http:
        checksum = source.sha256.lower() or published(source, http)
        if len(checksum) not in _ALGORITHMS or not re.fullmatch(r"[0-9a-f]+", checksum):
            raise SourceFailed(f"{checksum[:80]!r} is neither a sha256 nor a sha512")
        file = kit.work / "download"
        download(source.url, checksum, file, kit, http)
    given = []
    unpacked = kit.work / "unpacked"
    for member in sorted(wanted):
        inside = source.members[member]
        if inside and not unpacked.exists():
            kit.progress.item(kit.name, f"unpacking {_name(source.url)}")
            unpack(file, unpacked, check=kit.jobs.check)
        found = find_in(unpacked, inside) if inside else file
        if found is None:
            raise SourceFailed(f"{source.url} has no {inside!r}")
        target = kit.out / member
        target.parent.mkdir(parents=True, exist_ok=True)
        found.rename(target)
        if not inside:
            target.chmod(0o755)  # a download that is itself the member is a program
        given.append(
            Provenance(
                member=member, kind="release", detail=source.url, sha256=content_digest(target)
            )
        )
    return given


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

    with httpx2.Client(
        timeout=httpx2.Timeout(STALL, connect=CONNECT),
        follow_redirects=True,
        event_hooks={"request": [before]},
        headers={"User-Agent": "xk8s", "Accept-Encoding": "identity"},
    ) as http:
        yield http


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


def published(source: Release, http: httpx2.Client) -> str:
    """The checksum that is published beside the release; `SourceFailed` when there is none."""
    if not source.checksum_url:
        raise SourceFailed(f"{source.url} has no published checksum: refused")
    try:
        answer = http.get(source.checksum_url)
        answer.raise_for_status()
    except httpx2.HTTPError as error:
        raise SourceFailed(f"checksum {source.checksum_url}: {said(error)}") from error
    return find_checksum(answer.text, _name(source.url))


def find_checksum(text: str, name: str) -> str:
    """The hex digest of ``name``: a bare one, or that of its line as sha256sum writes them.
    `SourceFailed` when there is none.
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if len(lines) == 1 and len(lines[0]) == 1:
        return lines[0][0].lower()
    for words in lines:
        if len(words) == 2 and PurePosixPath(words[1].lstrip("*")).name == name:
            return words[0].lower()
    raise SourceFailed(f"the published checksums have no line for {name}")


def download(url: str, checksum: str, target: Path, kit: Kit, http: httpx2.Client) -> None:
    """Bring the file with this checksum to ``target``, going on where an earlier try stopped.

    What does not match its checksum is removed: nothing wrong stays in the cache. Raises
    `SourceFailed`.
    """
    part = kit.cache / "downloads" / f"{checksum[:64]}.part"
    part.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(kit.cache / "locks" / f"download-{checksum[:64]}.lock")
    (kit.cache / "locks").mkdir(exist_ok=True)
    kit.jobs.acquire(lock, lambda: kit.progress.item(kit.name, "waiting for another download"))
    try:
        for resumed in (part.exists(), False):
            _fetch(url, part, kit, http)
            with part.open("rb") as stream:
                algorithm = _ALGORITHMS[len(checksum)]
                found = hashlib.file_digest(stream, algorithm).hexdigest()
            if found == checksum:
                part.replace(target)
                return
            part.unlink()
            if not resumed:  # the piece from before may have been of another file: once anew
                raise SourceFailed(
                    f"{url}: checksum does not match: {found[:16]}…, published {checksum[:16]}…"
                )
    except httpx2.HTTPError as error:
        raise SourceFailed(f"{url}: {said(error)}") from error
    finally:
        lock.release()


def _fetch(url: str, part: Path, kit: Kit, http: httpx2.Client) -> None:
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with http.stream("GET", url, headers=headers) as answer:
        if have and answer.status_code == 416:
            return  # nothing is missing, or it is another file: the checksum will tell
        answer.raise_for_status()
        going_on = answer.status_code == 206
        if going_on and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise SourceFailed(f"{url}: the server sent another range than asked for")
        done = have if going_on else 0
        total = done + int(answer.headers.get("Content-Length", 0))
        with part.open("ab" if going_on else "wb") as sink:
            for piece in answer.iter_bytes(1 << 18):
                kit.jobs.check()
                sink.write(piece)
                done += len(piece)
                kit.progress.item(kit.name, f"downloading {_name(url)}", done=done, total=total)


def said(error: httpx2.HTTPError) -> str:
    """An HTTP client's error in a few words."""
    if isinstance(error, httpx2.HTTPStatusError):
        return f"HTTP {error.response.status_code}"
    if isinstance(error, httpx2.ReadTimeout):
        return f"no data for {STALL:.0f} s"
    return str(error) or type(error).__name__


def _name(url: str) -> str:
    return PurePosixPath(urlsplit(url).path).name
