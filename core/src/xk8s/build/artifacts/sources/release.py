"""`Release`: a download that counts only when its published checksum agrees."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from filelock import FileLock

from xk8s.build.artifacts.attempt import Attempt
from xk8s.errors import SourceFailed
from xk8s.releases import published_checksum
from xk8s.sources import Provenance, Release
from xk8s.util.archives import find_in, unpack
from xk8s.util.files import content_digest
from xk8s.util.http import Client, HttpError, client, url_file_name
from xk8s.util.paths import cache_lock

_ALGORITHMS = {64: "sha256", 128: "sha512"}


def provide(source: Release, wanted: frozenset[str], attempt: Attempt) -> list[Provenance]:
    """Download (resuming), compare, unpack, take the members."""
    if attempt.offline:
        raise SourceFailed("not tried (offline)")
    with client() as http:
        checksum = source.sha256.lower() or published_checksum(source, http)
        if len(checksum) not in _ALGORITHMS or not re.fullmatch(r"[0-9a-f]+", checksum):
            raise SourceFailed(f"{checksum[:80]!r} is neither a sha256 nor a sha512")
        file = attempt.work / "download"
        download(source.url, checksum, file, attempt, http)
    given = []
    unpacked = attempt.work / "unpacked"
    for member in sorted(wanted):
        inside = source.members[member]
        if inside and not unpacked.exists():
            attempt.progress.item(attempt.name, f"unpacking {url_file_name(source.url)}")
            unpack(file, unpacked, check=attempt.jobs.check)
        found = find_in(unpacked, inside) if inside else file
        if found is None:
            raise SourceFailed(f"{source.url} has no {inside!r}")
        target = attempt.out / member
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


def download_lock(cache_dir: Path, checksum: str) -> Path:
    """Return the lock file of a download, with its directory."""
    return cache_lock(cache_dir, f"download-{checksum[:64]}")


def download(url: str, checksum: str, target: Path, attempt: Attempt, http: Client) -> None:
    """Bring the file with this checksum to ``target``, going on where an earlier try stopped.

    What does not match its checksum is removed: nothing wrong stays in the cache. Raises
    `SourceFailed`.
    """
    part = attempt.cache / "downloads" / f"{checksum[:64]}.part"
    part.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(download_lock(attempt.cache, checksum))
    attempt.jobs.acquire(
        lock, lambda: attempt.progress.item(attempt.name, "waiting for another download")
    )
    try:
        for resumed in (part.exists(), False):
            _fetch(url, part, attempt, http)
            with part.open("rb") as stream:
                algorithm = _ALGORITHMS[len(checksum)]
                found = hashlib.file_digest(stream, algorithm).hexdigest()
            if found == checksum:
                part.replace(target)
                return
            part.unlink()
            if not resumed:  # the earlier piece may have been of a different file: start over once
                raise SourceFailed(
                    f"{url}: checksum does not match: {found[:16]}…, published {checksum[:16]}…"
                )
    except HttpError as error:
        raise SourceFailed(f"{url}: {error}") from error
    finally:
        lock.release()


def _fetch(url: str, part: Path, attempt: Attempt, http: Client) -> None:
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with http.stream(url, headers=headers) as answer:
        if have and answer.status == 416:
            return  # nothing is missing, or it is another file: the checksum will tell
        answer.raise_for_status()
        going_on = answer.status == 206
        if going_on and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise SourceFailed(f"{url}: the server sent a different range than requested")
        done = have if going_on else 0
        total = done + int(answer.headers.get("Content-Length", 0))
        with part.open("ab" if going_on else "wb") as sink:
            for piece in answer.iter_bytes(1 << 18):
                attempt.jobs.check()
                sink.write(piece)
                done += len(piece)
                attempt.progress.item(
                    attempt.name, f"downloading {url_file_name(url)}", done=done, total=total
                )
