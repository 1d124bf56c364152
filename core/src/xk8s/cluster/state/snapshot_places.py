"""Directories of snapshots that share a cache, so that none loses an image that it needs."""

from __future__ import annotations

import os
from pathlib import Path

from xk8s.util.digest import sha256_text
from xk8s.util.files import write_atomic
from xk8s.util.paths import snapshots_root


def remember_snapshots(cache: Path) -> None:
    """Call it before a snapshot is complete, or a cluster has other files than its disks: from then
    on their images are needed.
    """
    path = _memory(cache)
    place = os.fsencode(snapshots_root().absolute())
    if not path.is_file() or path.read_bytes() != place:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, place)


def forget_snapshots(cache: Path) -> None:
    """Forget this state directory, before it is removed with its snapshots."""
    _memory(cache).unlink(missing_ok=True)


def _memory(cache: Path) -> Path:
    return cache / "states" / sha256_text(os.fsencode(snapshots_root().absolute()))[:16]
