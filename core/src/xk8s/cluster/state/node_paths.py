"""Files of one VM of a cluster."""

from __future__ import annotations

from pathlib import Path

from xk8s.util.paths import memory_dir, runtime_dir, state_dir

NODES = "nodes"
"""Directory of the own layers of nodes, below the cluster's state."""
VOLUMES = "volumes"
"""Directory of the volumes of nodes, below the cluster's state."""
_VOLUME = ".volume"
CONSOLES = "console"
"""Directory with what the consoles of the VMs and their QEMUs said: see `qemu_log`."""

PROMISED = "promised"
"""File beside those with the RAM of VMs: bytes that these may grow to, all in all."""


def image_path(cluster: str, node: str) -> Path:
    """Return the path of a node's own layer."""
    return state_dir(cluster) / NODES / f"{node}.erofs"


def volume_path(cluster: str, node: str, name: str) -> Path:
    """Return the file of a node's volume."""
    return state_dir(cluster) / VOLUMES / f"{node}.{name}{_VOLUME}"


def volumes_in(directory: Path, node: str = "*") -> list[Path]:
    """Return the volumes of a node, or of all, in a directory."""
    return sorted(directory.glob(f"{node}.*{_VOLUME}"))


def qemu_log(console: Path) -> Path:
    """Return what a VM's QEMU said, beside the log of the VM's console."""
    return console.with_suffix(".qemu.log")


def pause_mark(cluster: str, node: str) -> Path:
    """Return the file that is there while the user wants the node paused."""
    return runtime_dir(cluster) / f"{node}.paused"


def ram_path(cluster: str, node: str) -> Path:
    """Return the file with a node's RAM while the cluster runs."""
    return memory_dir(cluster) / f"{node}.ram"


def moved_ram_path(cluster: str, node: str) -> Path:
    """Return the file with a node's RAM while the node moves into it."""
    return memory_dir(cluster) / f"{node}.new"


def remove_node_files(cluster: str, node: str) -> None:
    """Remove what a node has that does not run: all but its volumes."""
    console = state_dir(cluster) / CONSOLES / f"{node}.log"
    runtime = runtime_dir(cluster).glob(f"{node}.*")
    ram = (ram_path(cluster, node), moved_ram_path(cluster, node))
    for path in (image_path(cluster, node), *ram, console, qemu_log(console), *runtime):
        path.unlink(missing_ok=True)


def remove_node(cluster: str, node: str) -> None:
    """Remove everything of a node that never comes back."""
    remove_node_files(cluster, node)
    remove_volumes(cluster, node)


def remove_volumes(cluster: str, node: str) -> None:
    """Remove the volumes of a node: of one that never comes back."""
    for path in (state_dir(cluster) / VOLUMES).glob(f"{node}.*"):
        path.unlink(missing_ok=True)
