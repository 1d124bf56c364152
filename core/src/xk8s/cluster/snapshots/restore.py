"""Bring a saved cluster back: all VMs at once, from copy-on-write views of its memory files."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs

from xk8s.cluster.handle import Cluster
from xk8s.cluster.snapshots.save import KEPT_DIRECTORIES, KEPT_FILES, copy_directory
from xk8s.cluster.snapshots.store import Snapshot
from xk8s.cluster.state.booted import BootedCluster
from xk8s.cluster.state.node_paths import VOLUMES, ram_path
from xk8s.cluster.state.passed_checks import CHECKED, copy_passed
from xk8s.cluster.state.record import Record, write_record
from xk8s.cluster.state.request_file import LOCAL
from xk8s.cluster.vms import launch
from xk8s.cluster.vms.memory_room import promise
from xk8s.cluster.vms.qmp_sessions import connect, each
from xk8s.cluster.vms.volumes import copy_volumes
from xk8s.machine.qemu import migrate
from xk8s.machine.qemu.agent import Agent
from xk8s.machine.qemu.command import Memory
from xk8s.machine.qemu.qmp import Qmp
from xk8s.progress import Progress
from xk8s.util.disk_full import disk_guard
from xk8s.util.files import remove_tree
from xk8s.util.paths import make_private, state_dir

_AGENT_SECONDS = 30.0
"""Until the agent of a restored guest answers: all it does, it does for the first time."""


STAGED = (*KEPT_DIRECTORIES, VOLUMES, LOCAL, *KEPT_FILES, CHECKED)
"""What a cluster's state has of a snapshot."""


@contextmanager
def staged(saved: Snapshot) -> Iterator[Path]:
    """Copies of what `restore` takes from a snapshot, to be moved from there: when the disk is full
    or fails, that is found out before anything that runs was ended. A `DiskError` then.
    """
    # Beside it: on the disk of the cluster's state, and private.
    work = saved.directory.with_name(f"{saved.label}.restoring")
    try:
        with disk_guard(work):
            remove_tree(work)
            make_private(work)
            for part in (*KEPT_DIRECTORIES, LOCAL):
                copy_directory(saved.directory / part, work / part)
            for name in KEPT_FILES:
                shutil.copy2(saved.directory / name, work / name)
            copy_passed(saved.directory, work)
            make_private(work / VOLUMES)
            copy_volumes(saved.directory, work / VOLUMES)
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def take_staged(work: Path, cluster: str, names: Iterable[str] = STAGED) -> None:
    """Move what was staged to the state of the cluster, in place of what it has."""
    for path in (work / name for name in names):
        target = state_dir(cluster) / path.name
        if not path.exists():
            continue
        remove_tree(target)
        path.rename(target)


@contextmanager
def restore(
    boot: BootedCluster, saved: Snapshot, record: Record, progress: Progress
) -> Iterator[Cluster]:
    """Start the VMs of a snapshot that fits (see `store.problem`), of which `take_staged` has put
    the files in place, and let them run. Their clocks are stepped while the block works with them,
    and are right behind it. The caller sweeps when this raises.
    """
    with ThreadPoolExecutor(max_workers=len(boot.nodes)) as pool:
        with progress.stage("restore"):
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
            promise(boot.cluster, node.memory << 20)
            path = ram_path(boot.cluster, node.name)
        found[node.name] = Memory(size=node.memory, file=path, saved=path == saved.ram(node.name))
    return found
