"""Bring a saved cluster back: all VMs at once, from copy-on-write views of its memory files."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import attrs

from xk8s.cluster import machines
from xk8s.cluster.access import Cluster
from xk8s.cluster.boot import Boot
from xk8s.cluster.record import Record, write_record
from xk8s.cluster.save import KEPT_DIRECTORIES, copy_directory, ram_path, room_for_memory
from xk8s.cluster.saved import Saved
from xk8s.cluster.sessions import connect, each
from xk8s.errors import HostError
from xk8s.paths import state_dir
from xk8s.progress import Progress
from xk8s.qemu import migrate
from xk8s.qemu.agent import Agent
from xk8s.qemu.command import Memory

_AGENT_SECONDS = 30.0


def restore(boot: Boot, saved: Saved, record: Record, progress: Progress) -> Cluster:
    """Start the VMs of a snapshot that fits (`xk8s.cluster.saved.problem` said so), let them
    run and step their clocks. The caller sweeps when this raises.
    """
    name = boot.cluster
    with progress.stage("restore"):
        for part in KEPT_DIRECTORIES:
            copy_directory(saved.directory / part, state_dir(name) / part)
        namespace = machines.networks(boot)
        started = machines.start(boot, namespace, _memory(boot, saved), incoming=True)
        record = attrs.evolve(record, memory="private", snapshot=saved.label, nodes=started)
        write_record(record)
        with ExitStack() as stack, ThreadPoolExecutor(max_workers=len(started)) as pool:
            sessions = connect(stack, record, [node.name for node in started])
            each(pool, sessions, lambda node, qmp: migrate.load(qmp, saved.state(node)))
            # Together: what one sends must find the others running.
            each(pool, sessions, lambda _, qmp: qmp.execute("cont"))
            each(pool, sessions, lambda node, _: _step_clock(record, node))
    return Cluster(record)


def _memory(boot: Boot, saved: Saved) -> dict[str, Memory]:
    found = {}
    for booted in boot.nodes:
        node = booted.node
        path = saved.ram(node.name)
        if path is None:
            # The state brings the RAM; it needs a file of the same kind to go to.
            if not room_for_memory(boot):
                raise HostError("no room for the memory of the VMs", where="/dev/shm")  # noqa: S108
            path = ram_path(boot.cluster, node.name)
        found[node.name] = Memory(size=node.memory, file=path)
    return found


def _step_clock(record: Record, node: str) -> None:
    """The guest's clock stood still since the save."""
    agent = Agent(record.sockets(node).agent, node)
    agent.wait(_AGENT_SECONDS)
    agent.set_time(time.time_ns())
