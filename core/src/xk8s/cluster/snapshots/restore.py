"""Bring a saved cluster back: all VMs at once, from copy-on-write views of its memory files."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import attrs

from xk8s.cluster.handle import Cluster
from xk8s.cluster.snapshots.save import KEPT_DIRECTORIES, copy_directory
from xk8s.cluster.snapshots.store import Snapshot
from xk8s.cluster.state.booted import BootedCluster
from xk8s.cluster.state.record import Record, write_record
from xk8s.cluster.vms import launch
from xk8s.cluster.vms.qmp_sessions import connect, each
from xk8s.cluster.vms.ram import ram_path, room_for_memory
from xk8s.errors import HostError
from xk8s.machine.qemu import migrate
from xk8s.machine.qemu.agent import Agent
from xk8s.machine.qemu.command import Memory
from xk8s.machine.qemu.qmp import Qmp
from xk8s.progress import Progress
from xk8s.util.paths import state_dir

_AGENT_SECONDS = 30.0
"""Until the agent of a restored guest answers: all it does, it does for the first time."""


@contextmanager
def restore(
    boot: BootedCluster, saved: Snapshot, record: Record, progress: Progress
) -> Iterator[Cluster]:
    """Start the VMs of a snapshot that fits (see `store.problem`) and let them
    run. Their clocks are stepped while the block works with them, and are right behind it. The
    caller sweeps when this raises.
    """
    name = boot.cluster
    with ThreadPoolExecutor(max_workers=len(boot.nodes)) as pool:
        with progress.stage("restore"):
            for part in KEPT_DIRECTORIES:
                copy_directory(saved.directory / part, state_dir(name) / part)
            saved.mark_used()
            namespace = launch.networks(boot)
            started = launch.start(boot, namespace, _memory(boot, saved), incoming=True)
            record = attrs.evolve(record, memory="private", snapshot=saved.label, nodes=started)
            write_record(record)
            with ExitStack() as stack:
                sessions = connect(stack, record, [node.name for node in started])
                each(pool, sessions, lambda node, qmp: _load(saved, node, qmp))
                # Together: what one sends must find the others running.
                each(pool, sessions, lambda _, qmp: qmp.execute("cont"))
        agents = [Agent(record.sockets(node.name).agent, node.name) for node in started]
        stepped = [pool.submit(agent.set_time, _AGENT_SECONDS) for agent in agents]
        yield Cluster(record)
        for future in stepped:
            future.result()


def _load(saved: Snapshot, node: str, qmp: Qmp) -> None:
    migrate.load(qmp, saved.state(node), ram=saved.ram(node) is None)


def _memory(boot: BootedCluster, saved: Snapshot) -> dict[str, Memory]:
    found = {}
    for booted in boot.nodes:
        node = booted.node
        path = saved.ram(node.name)
        if path is None:
            # The state brings the RAM; it needs a file of the same kind to go to.
            if not room_for_memory(boot):
                raise HostError("not enough space for the memory of the VMs", where="/dev/shm")  # noqa: S108
            path = ram_path(boot.cluster, node.name)
        found[node.name] = Memory(size=node.memory, file=path, saved=path == saved.ram(node.name))
    return found
