"""Make the RAM of a restored cluster shared, while it runs.

A restored VM has a private view of its RAM's file: what it wrote is nowhere else. Before such a
cluster is saved, each VM moves, RAM and all, into a new process whose RAM is a new shared file; it
is paused for the last tenth of a second of that. Then it is like a VM that was booted.
"""

from __future__ import annotations

from pathlib import Path

import attrs

from xk8s.cluster.handle import Cluster
from xk8s.cluster.resume import written_down
from xk8s.cluster.state.booted import BootedCluster, BootedNode
from xk8s.cluster.state.node_paths import moved_ram_path, ram_path
from xk8s.cluster.state.record import NodeRecord, Record, Unfinished, write_record
from xk8s.cluster.vms import launch
from xk8s.cluster.vms.memory_room import promise, release, used
from xk8s.cluster.vms.ram import ram_directory
from xk8s.errors import HostError
from xk8s.machine.qemu import migrate
from xk8s.machine.qemu.accelerator import qemu_version
from xk8s.machine.qemu.command import Memory
from xk8s.machine.qemu.qmp import Qmp
from xk8s.progress import Progress
from xk8s.util.host_memory import memory_of_host
from xk8s.util.paths import runtime_dir
from xk8s.util.processes import end

_SECONDS = 60.0
_SPARE = 256 << 20
"""Bytes of the host's memory that are left to others."""


def share(cluster: Cluster, boot: BootedCluster, progress: Progress) -> tuple[Cluster, float]:
    """Move all VMs, one after the other. Return the cluster with its new processes, and the longest
    pause in seconds.

    Raises `HostError` if there is not enough space, `MachineError` if QEMU cannot move one; the
    cluster then continues, in new processes as far as its record says so.
    """
    pauses = []
    for booted in boot.nodes:
        progress.item(booted.node.name, f"sharing the memory of {booted.node.name}")
        try:
            cluster, pause = _move(cluster, boot, booted)
        finally:
            progress.finish(booted.node.name)
        pauses.append(pause)
    record = attrs.evolve(cluster.record, memory="shared")
    write_record(record)
    return cluster.as_of(record), max(pauses, default=0.0)


def _move(cluster: Cluster, boot: BootedCluster, booted: BootedNode) -> tuple[Cluster, float]:
    name = booted.node.name
    old = cluster.record.node(name)
    # The old process may have the file of that name: a new one, not the same.
    ram_directory(cluster.name)
    new = moved_ram_path(cluster.name, name)
    new.unlink(missing_ok=True)
    size = booted.node.memory << 20
    _check_memory(new.parent, size)
    promise(cluster.name, size)
    unfinished = Unfinished(step="move", names=(name,))
    with written_down(cluster.record, unfinished):
        (started,) = launch.start(
            attrs.evolve(boot, nodes=(booted,)),
            cluster.namespace,
            {name: Memory(size=booted.node.memory, file=new, share=True)},
            incoming=True,
            generation=cluster.record.latest + 1,
        )
        write_record(
            attrs.evolve(cluster.record, unfinished=attrs.evolve(unfinished, nodes=(started,)))
        )
        record = _with(cluster.record, started)
        with (
            Qmp(cluster.sockets(name).qmp, name, timeout=_SECONDS) as before,
            Qmp(record.sockets(name).qmp, name, timeout=_SECONDS) as after,
        ):
            socket = runtime_dir(cluster.name) / f"{name}.move"
            pause = migrate.move(before, after, socket, version=qemu_version())
            ram = ram_path(cluster.name, name)
            replaced = used(ram)
            new.rename(ram)
            release(cluster.name, replaced)
            end([old.process], grace=0)
        write_record(record)
    return cluster.as_of(record), pause


def _with(record: Record, node: NodeRecord) -> Record:
    nodes = tuple(node if other.name == node.name else other for other in record.nodes)
    return attrs.evolve(record, nodes=nodes)


def _check_memory(directory: Path, size: int) -> None:
    """A VM's RAM is there twice while it moves."""
    free = memory_of_host("MemAvailable") - _SPARE
    if free < size:
        raise HostError(
            f"not enough space for another {size >> 20} MiB of memory: {free >> 20} MiB are free",
            where=str(directory),
        )
