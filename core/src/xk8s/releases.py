"""Whether a release is available from here: asked once, remembered in the cache.

A plan touches no network; but an overlay that is a default choice only if its release can be
downloaded needs an answer. `up` asks (``online``), a plan uses the remembered answer.
"""

from __future__ import annotations

import json
import time
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from xk8s.errors import SourceFailed
from xk8s.sources import Release
from xk8s.util.digest import sha256_text
from xk8s.util.log import get_logger
from xk8s.util.paths import cache_dir, write_private

if TYPE_CHECKING:
    from xk8s.util.http import Client

log = get_logger(__name__)

log = get_logger(__name__)

AGAIN_SECONDS = 24 * 3600.0
"""A "no" is asked again after a day: laptops come back to the internet."""


def why_unavailable(release: Release, *, online: bool) -> str | None:
    """Return why the release is unavailable, or None if its checksum is published.

    ``online`` may ask the network (a few seconds at most) where nothing is remembered or the
    remembered "no" is old; otherwise only the memory counts.
    """
    place = _place(release)
    known = _read(place)
    fresh = known is not None and (not known[0] or time.time() - known[1] < AGAIN_SECONDS)
    if fresh:
        log.info("cache_hit", kind="release", url=release.url)
    elif online:
        reason = "an old answer is asked for again" if known else "never asked"
        log.info("cache_miss", kind="release", url=release.url, reason=reason)
    if online and not fresh:
        known = (_ask(release), time.time())
        write_private(place, json.dumps({"url": release.url, "no": known[0], "at": known[1]})
                      .encode())  # fmt: skip
    if known is None:
        return "nobody has asked for its release from here yet (`xk8s up` does)"
    return known[0] or None


def _ask(release: Release) -> str:
    from xk8s.util.http import client  # an HTTP client is slow to import

    try:
        with client() as http:
            published_checksum(release, http)
    except SourceFailed as error:
        return str(error)
    return ""


def _place(release: Release) -> Path:
    return cache_dir() / "published" / f"{sha256_text(release.url)[:32]}.json"


def _read(place: Path) -> tuple[str, float] | None:
    try:
        document = json.loads(place.read_text())
        return str(document["no"]), float(document["at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # nothing, or damaged: asked again


def published_checksum(source: Release, http: Client) -> str:
    """Return the checksum that is published beside the release; `SourceFailed` if there is none."""
    from xk8s.util.http import HttpError, url_file_name

    if not source.checksum_url:
        raise SourceFailed(f"{source.url} has no published checksum: refused")
    try:
        answer = http.get(source.checksum_url)
        answer.raise_for_status()
    except HttpError as error:
        raise SourceFailed(f"checksum {source.checksum_url}: {error}") from error
    return find_checksum(answer.text, url_file_name(source.url))


def find_checksum(text: str, name: str) -> str:
    """Return the hex digest of ``name``: a bare one, or that of its line as sha256sum writes them.
    `SourceFailed` if there is none.
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if len(lines) == 1 and len(lines[0]) == 1:
        return lines[0][0].lower()
    for fields in lines:
        if len(fields) == 2 and PurePosixPath(fields[1].lstrip("*")).name == name:
            return fields[0].lower()
    raise SourceFailed(f"the published checksums have no line for {name}")
