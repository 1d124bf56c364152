"""References of images: ``registry/repository:tag`` and ``registry/repository@sha256:…``."""

from __future__ import annotations

import re

from xk8s.errors import UsageError

DIGEST = r"sha256:[0-9a-f]{64}"
"""Regular expression of a digest."""

_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::\d+)?"
_PATH = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+|/)[a-z0-9]+)*"
_FULL = re.compile(rf"({_HOST}/{_PATH})(?::(\w[\w.-]{{0,127}}))?(?:@({DIGEST}))?", re.ASCII)


def split_ref(ref: str) -> tuple[str, str, str]:
    """Return a full reference as (registry/repository, tag, digest); tag or digest may be "".
    `UsageError` for an invalid reference.
    """
    match = _FULL.fullmatch(ref)
    if match is None:
        raise UsageError(
            f"{ref!r} is not an image reference",
            hint="write registry.example/name:tag, or name:tag",
        )
    return match[1], match[2] or "", match[3] or ""
