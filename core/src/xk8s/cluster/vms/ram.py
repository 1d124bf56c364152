"""Location of the RAM of a cluster's VMs, so that it can be shared and saved."""

from __future__ import annotations

import shutil
from pathlib import Path

from xk8s.cluster.state.booted import BootedCluster
from xk8s.cluster.state.record import Backing
from xk8s.machine.qemu.command import Memory
from xk8s.util.paths import make_private, memory_dir


def ram_path(cluster: str, node: str) -> Path:
    """Return the file with a node's RAM while the cluster runs."""
    return memory_dir(cluster) / f"{node}.ram"


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


def choose_backing(boot: BootedCluster, *, saved: bool, copied: bool) -> Backing:
    """Return the kind of RAM that suits VMs that will be ``saved``, or are ``copied`` from a
    template: to be saved all of it has to be in a file of its own, and else what VMs have of a
    template is there once.
    """
    ram_directory(boot.cluster)
    if copied and not saved:
        return "private"
    if room_for_memory(boot):
        return "shared"
    return "private" if copied else "anonymous"


def room_for_memory(boot: BootedCluster) -> bool:
    """Return whether the tmpfs takes the RAM of all VMs, so that it can be shared and saved."""
    wanted = sum(planned.node.memory for planned in boot.nodes) << 20
    return shutil.disk_usage(ram_directory(boot.cluster)).free > wanted
