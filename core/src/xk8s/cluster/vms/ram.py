"""Location of the RAM of a cluster's VMs, so that it can be shared and saved."""

from __future__ import annotations

from pathlib import Path

from xk8s.cluster.state.booted import BootedCluster
from xk8s.cluster.state.node_paths import ram_path
from xk8s.cluster.state.record import Backing
from xk8s.machine.qemu.command import Memory
from xk8s.util.paths import make_private, memory_dir


def ram_directory(cluster: str) -> Path:
    """Return the directory of these files, created for this user alone."""
    directory = memory_dir(cluster)
    make_private(directory.parent)
    return make_private(directory)


def memory_of(boot: BootedCluster, backing: Backing) -> dict[str, Memory]:
    """RAM of that kind for each VM, by name, in its file if it has one."""
    return {
        planned.node.name: Memory(
            size=planned.node.memory,
            file=None if backing == "anonymous" else ram_path(boot.cluster, planned.node.name),
            share=backing == "shared",
        )
        for planned in boot.nodes
    }


def size_of(boot: BootedCluster) -> int:
    """Return the bytes of RAM of all VMs."""
    return sum(planned.node.memory for planned in boot.nodes) << 20
