"""Files and archives for recipes and settings of overlays: digests, trees, safe unpacking."""

from __future__ import annotations

from xk8s.util.archives import ZSTD, Limits, UnsafeArchive, open_tar, unpack
from xk8s.util.files import file_digest, walk
from xk8s.util.remembered import fingerprints

__all__ = [
    "ZSTD",
    "Limits",
    "UnsafeArchive",
    "file_digest",
    "fingerprints",
    "open_tar",
    "unpack",
    "walk",
]
