"""References to layer images: from VMs that run, in whatever state directory, from what was applied
to them since, and from snapshots.

The cache is shared by all state directories ($XK8S_STATE) of a user, so that it remembers where
there are snapshots: ``<cache>/states/*``, each a file with the path of a directory of snapshots.
Beside that are the clusters.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from xk8s.cluster.snapshots.store import list_snapshots
from xk8s.cluster.state.booted import BOOT
from xk8s.cluster.state.guest_files import GUEST_FILES, read_guest_files
from xk8s.errors import StateError
from xk8s.util.paths import clusters_dir, snapshots_root
from xk8s.util.processes import CLUSTER_VARIABLE, all_processes

_IMAGE = re.compile(rb"/([0-9a-f]{64})\.erofs\b")
_ARTIFACT = re.compile(rb"artifacts/([0-9a-f]{64})/")


def users(cache: Path) -> Mapping[str, tuple[str, ...]]:
    """Key of each image that is needed -> by whom, in words."""
    found: dict[str, dict[str, None]] = {}
    for key, who in (*_in_processes(_IMAGE), *_snapshots(cache)):
        found.setdefault(key, {})[who] = None
    return {key: tuple(sorted(names)) for key, names in found.items()}


def artifact_users(cache: Path) -> Mapping[str, tuple[str, ...]]:
    """Return who needs each artifact: the kernels of VMs that run or may be restored."""
    found: dict[str, dict[str, None]] = {}
    for key, who in _in_processes(_ARTIFACT):
        found.setdefault(key, {})[who] = None
    for root in snapshot_roots(cache):
        for path in (*root.glob(f"*/*/{BOOT}"), *_clusters(root).glob(f"*/{BOOT}")):
            who = f"cluster {path.parent.name}"
            if path.is_relative_to(root):
                who = f"snapshot {path.parent.parent.name}/{path.parent.name}"
            with contextlib.suppress(OSError):
                for key in _ARTIFACT.findall(path.read_bytes()):
                    found.setdefault(key.decode(), {})[who] = None
    return {key: tuple(sorted(names)) for key, names in found.items()}


def _in_processes(pattern: re.Pattern[bytes]) -> Iterator[tuple[str, str]]:
    """Read command lines: they cannot be wrong about which files a QEMU has open."""
    for process in all_processes():
        if not (keys := {*pattern.findall(os.fsencode(process.command))}):
            continue
        runtime = process.variable(CLUSTER_VARIABLE)
        who = f"process {process.pid}" if runtime is None else f"cluster {Path(runtime).name}"
        for key in keys:
            yield key.decode(), who


def snapshot_roots(cache: Path) -> tuple[Path, ...]:
    """Directories of snapshots of all state directories."""
    roots = {snapshots_root().absolute()}
    with contextlib.suppress(FileNotFoundError):
        roots |= {Path(os.fsdecode(path.read_bytes())) for path in (cache / "states").iterdir()}
    return tuple(sorted(roots))


def _clusters(root: Path) -> Path:
    return root.parent / clusters_dir().name


def _snapshots(cache: Path) -> Iterator[tuple[str, str]]:
    for root in snapshot_roots(cache):
        for snapshot in list_snapshots(root):
            for key in snapshot.layers.values():
                yield key, f"snapshot {snapshot.cluster}/{snapshot.label}"
        for path in _clusters(root).glob(f"*/{GUEST_FILES}"):
            with contextlib.suppress(StateError):
                for key in read_guest_files(path.parent).layers.values():
                    yield key, f"cluster {path.parent.name}"
