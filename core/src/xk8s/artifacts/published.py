"""Whether a release can be had from here: asked once, remembered in the cache.

A plan touches no network; an overlay that is a default choice only where its release can be
downloaded needs an answer all the same. `up` asks (``online``), a plan uses what was found then.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from xk8s.artifacts.keys import sha256_text
from xk8s.artifacts.model import Release
from xk8s.paths import cache_dir, write_private

AGAIN_SECONDS = 24 * 3600.0
"""A "no" is asked again after a day: laptops come back to the internet."""


def why_not(release: Release, *, online: bool) -> str | None:
    """Why the release cannot be had, or None when its checksum is published.

    ``online`` may ask the network (a few seconds at most) where nothing is remembered or the
    remembered "no" is old; otherwise only the memory counts.
    """
    place = _place(release)
    known = _read(place)
    fresh = known is not None and (not known[0] or time.time() - known[1] < AGAIN_SECONDS)
    if online and not fresh:
        known = (_ask(release), time.time())
        write_private(place, json.dumps({"url": release.url, "no": known[0], "at": known[1]})
                      .encode())  # fmt: skip
    if known is None:
        return "nobody has asked for its release from here yet (`xk8s up` does)"
    return known[0] or None


def _ask(release: Release) -> str:
    from xk8s.artifacts.download import client, published  # an HTTP client is slow to import
    from xk8s.artifacts.kit import SourceFailed

    try:
        with client() as http:
            published(release, http)
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
