"""Who needs which layer image: VMs that run, of whatever state directory, and snapshots.

The cache is shared by all state directories ($XK8S_STATE) of a user, so that it remembers where
there are snapshots: ``<cache>/states/*``, each a file with the path of a directory of snapshots.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from xk8s.artifacts.keys import sha256_text
from xk8s.cluster.saved import list_saved
from xk8s.paths import snapshots_root
from xk8s.qemu.leftovers import CLUSTER_VARIABLE

_IMAGE = re.compile(rb"/([0-9a-f]{64})\.erofs\b")


def remember_snapshots(cache: Path) -> None:
    """Call it before a snapshot is complete: from then on its images are needed."""
    path = _memory(cache)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.fsencode(snapshots_root().absolute()))


def forget_snapshots(cache: Path) -> None:
    """Call it when this state directory is to go, with its snapshots."""
    _memory(cache).unlink(missing_ok=True)


def _memory(cache: Path) -> Path:
    return cache / "states" / sha256_text(os.fsencode(snapshots_root().absolute()))[:16]


def users(cache: Path) -> Mapping[str, tuple[str, ...]]:
    """Key of each image that is needed -> by whom, in words."""
    found: dict[str, dict[str, None]] = {}
    for key, who in (*_processes(), *_snapshots(cache)):
        found.setdefault(key, {})[who] = None
    return {key: tuple(sorted(names)) for key, names in found.items()}


def _processes() -> Iterator[tuple[str, str]]:
    """By command lines: they cannot be wrong about which files a QEMU has open."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError):  # gone meanwhile
            for key in {*_IMAGE.findall((entry / "cmdline").read_bytes())}:
                yield key.decode(), _cluster(entry) or f"process {entry.name}"


def _cluster(process: Path) -> str:
    mark = f"{CLUSTER_VARIABLE}=".encode()
    with contextlib.suppress(OSError):  # another user's
        for word in (process / "environ").read_bytes().split(b"\0"):
            if word.startswith(mark):
                return f"cluster {Path(os.fsdecode(word.removeprefix(mark))).name}"
    return ""


def _snapshots(cache: Path) -> Iterator[tuple[str, str]]:
    roots = {snapshots_root().absolute()}
    with contextlib.suppress(FileNotFoundError):
        roots |= {Path(os.fsdecode(one.read_bytes())) for one in (cache / "states").iterdir()}
    for root in sorted(roots):
        for one in list_saved(root):
            for key in one.layers.values():
                yield key, f"snapshot {one.cluster}/{one.label}"
