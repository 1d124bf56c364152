"""Volumes of nodes: files below the cluster's state, which outlive the processes of its VMs.

What a guest has written lies in them or in this machine's page cache, from where any later process
reads it. They end with the cluster; snapshots have copies.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from xk8s.cluster.state.booted import BootedCluster
from xk8s.cluster.state.node_paths import VOLUMES, volume_path, volumes_in
from xk8s.errors import HostError
from xk8s.overlay import Volume
from xk8s.util import host_programs
from xk8s.util.paths import make_private, state_dir
from xk8s.util.run_program import run_program
from xk8s.util.sparse import sparse_copy

ARGUMENT = "xk8s.volumes="
"""So begins the argument that tells a guest where its volumes belong."""

_MKFS = (
    "mkfs.ext4", "-q", "-F", "-m", "0", "-N", "8192", "-J", "size=8", "-L", "xk8s",
    # Checksums of metadata cost a guest without KVM more than they find.
    "-O", "^metadata_csum", "-E", "root_owner=0:0,lazy_itable_init=0,lazy_journal_init=1",
)  # fmt: skip


def argument(volumes: Iterable[Volume]) -> tuple[str, ...]:
    """Return the kernel argument for these volumes, if there are any."""
    words = [f"{volume.name}:{volume.path}" for volume in volumes]
    return (ARGUMENT + ",".join(words),) if words else ()


def make_volumes(boot: BootedCluster) -> None:
    """Make the volumes that its nodes do not have yet. `HostError` when that cannot be done."""
    for booted in boot.nodes:
        for volume in booted.volumes:
            path = volume_path(boot.cluster, booted.node.name, volume.name)
            if not path.exists():
                make_private(path.parent)
                _make(path, volume.size << 20)


def copy_volumes(source: Path, target: Path, node: str = "*") -> None:
    """Copy the volumes of a node, or of all, into a directory. The guest must not run meanwhile.
    They are on the disk only once somebody has flushed them.
    """
    for path in volumes_in(source, node):
        sparse_copy(path, target / path.name, flush=False)


def size_of_volumes(cluster: str) -> int:
    """Bytes that the volumes of a cluster take on the disk."""
    return sum(path.stat().st_blocks * 512 for path in volumes_in(state_dir(cluster) / VOLUMES))


def _make(path: Path, size: int) -> None:
    part = path.with_suffix(".part")
    try:
        with open(part, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.truncate(size)
        program, *words = _MKFS
        found = host_programs.find(program)
        done = None if found is None else run_program([found, *words, str(part)])
        if done is None or done.returncode != 0:
            raise HostError(
                f"{program} cannot make a volume",
                where=str(path),
                hint=host_programs.hint(program),
                log="the program is missing" if done is None else done.stderr.strip(),
            )
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
