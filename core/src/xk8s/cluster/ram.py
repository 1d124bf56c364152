"""Where the RAM of a cluster's VMs is, so that it can be shared and saved."""

from __future__ import annotations

import shutil
from pathlib import Path

from xk8s.cluster.boot import Boot
from xk8s.paths import make_private, memory_dir


def ram_path(cluster: str, node: str) -> Path:
    """The file with a node's RAM while the cluster runs."""
    return memory_dir(cluster) / f"{node}.ram"


def room_for_memory(boot: Boot) -> bool:
    """Whether the tmpfs takes the RAM of all VMs, so that it can be shared and saved."""
    directory = memory_dir(boot.cluster)
    make_private(directory.parent)
    make_private(directory)
    wanted = sum(one.node.memory for one in boot.nodes) << 20
    return shutil.disk_usage(directory).free > wanted
