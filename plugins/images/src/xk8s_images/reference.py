"""References of images: registry/repository:tag and registry/repository@sha256:…."""

from __future__ import annotations

import re

from xk8s.errors import UsageError

DIGEST = r"sha256:[0-9a-f]{64}"
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::\d+)?"
_PATH = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+|/)[a-z0-9]+)*"
_FULL = re.compile(rf"({_HOST}/{_PATH})(?::(\w[\w.-]{{0,127}}))?(?:@({DIGEST}))?", re.ASCII)


def full_ref(ref: str) -> str:
    """Return a reference with registry, path and tag written out.

    >>> full_ref("busybox"), full_ref("quay.io/a/b:1")
    ('docker.io/library/busybox:latest', 'quay.io/a/b:1')
    """
    first, slash, _ = ref.partition("/")
    is_host = slash and ("." in first or ":" in first or first == "localhost")
    if not is_host:
        ref = f"docker.io/{ref}" if slash else f"docker.io/library/{ref}"
    last = ref.rpartition("/")[2]
    return ref if ":" in last or "@" in last else f"{ref}:latest"


def split(ref: str) -> tuple[str, str, str]:
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


def cluster_name(ref: str) -> str:
    """Return the name that pods use for an image requested as ``ref``, a full reference: a digest
    beside a tag says which image, but is not part of its name.
    """
    name, tag, digest = split(ref)
    return f"{name}:{tag}" if tag else f"{name}@{digest}"
