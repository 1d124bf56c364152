"""Digests that tags of images last resolved to, kept in the cache."""

from __future__ import annotations

import json
from pathlib import Path

from xk8s.errors import ArtifactError
from xk8s.util.files import write_atomic
from xk8s.util.paths import cache_dir, cache_lock

FILE = "tags.json"


def pinned(ref: str) -> str:
    """Return a reference with the digest that its tag last resolved to, ``name:tag@sha256:…``;
    unchanged if the tag was never looked up again, or if it has a digest.
    """
    digest = "" if "@" in ref else _read().get(ref, "")
    return f"{ref}@{digest}" if digest else ref


def _read() -> dict[str, str]:
    try:
        return {str(ref): str(digest) for ref, digest in json.loads(_path().read_text()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"{_path()} is damaged: {error}", where=str(_path()), hint=f"remove it: rm {_path()}"
        ) from error


def remember(found: dict[str, str]) -> None:
    """Record the digest of each tag, beside those recorded already."""
    from filelock import FileLock  # takes long to import, and every plan reads tags

    path = _path()
    with FileLock(cache_lock(path.parent, "tags")):
        text = json.dumps({**_read(), **found}, indent=1, sort_keys=True)
        write_atomic(path, text + "\n")


def _path() -> Path:
    return cache_dir() / FILE
