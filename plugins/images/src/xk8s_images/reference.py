"""References of images as users write them and as pods use them."""

from __future__ import annotations

from xk8s.image_reference import split_ref


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


def cluster_name(ref: str) -> str:
    """Return the name that pods use for an image requested as ``ref``, a full reference: a digest
    beside a tag says which image, but is not part of its name.
    """
    name, tag, digest = split_ref(ref)
    return f"{name}:{tag}" if tag else f"{name}@{digest}"
