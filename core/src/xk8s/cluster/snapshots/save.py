"""Save a running cluster. It is paused for tenths of a second, and then continues.

A cluster that was booted has its RAM in files that hold all of it. New processes are started on
copy-on-write views of these files beforehand; then all VMs stop, their device states pass to the
new processes, and these continue. The files no longer change, and are copied in the background. A
cluster that was restored, or saved before, gets such files first: see `share_ram`.
"""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import attrs

from xk8s.cluster.handle import Cluster
from xk8s.cluster.resume import written_down
from xk8s.cluster.snapshots import store
from xk8s.cluster.snapshots.handover import hand_over
from xk8s.cluster.snapshots.share_ram import share
from xk8s.cluster.state.booted import BOOT, BootedCluster
from xk8s.cluster.state.guest_files import GUEST_FILES, GuestFiles
from xk8s.cluster.state.node_paths import NODES, VOLUMES, ram_path
from xk8s.cluster.state.passed_checks import copy_passed
from xk8s.cluster.state.record import Record, Unfinished, read_record, write_record
from xk8s.cluster.state.request_file import LOCAL, PLAN, REQUEST
from xk8s.cluster.state.secrets import PKI
from xk8s.cluster.state.snapshot_places import remember_snapshots
from xk8s.cluster.vms.machine_key import machine_key
from xk8s.cluster.vms.memory_room import release_unused
from xk8s.cluster.vms.qmp_sessions import connect, each
from xk8s.cluster.vms.volumes import copy_volumes, size_of_volumes
from xk8s.errors import HostError, MachineError
from xk8s.machine.qemu import migrate
from xk8s.machine.qemu.accelerator import qemu_version
from xk8s.machine.qemu.agent import Agent
from xk8s.progress import Progress
from xk8s.util.disk_full import DiskError, DiskFull, blamed, disk_error
from xk8s.util.files import put_in_place, remove_tree
from xk8s.util.paths import cache_dir, make_private, memory_dir, state_dir
from xk8s.util.sparse import sparse_copy

_STATES = 16 << 20
"""Bytes of disk that the states of a VM's devices, its own layer and keys never take."""

KEPT_DIRECTORIES = (NODES, PKI)
KEPT_FILES = (REQUEST, PLAN, BOOT, GUEST_FILES)
"""Of the cluster's state, what its memory does not hold."""


def unsavable(record: Record) -> str | None:
    """Why a cluster cannot be saved here, or None."""
    if qemu_version() < migrate.LEAST_QEMU:
        return "QEMU 8.2 or later is needed"
    if record.memory == "anonymous":
        return f"its memory is not in {memory_dir(record.name).parent}: there was not enough space"
    return None


def save(
    cluster: Cluster, boot: BootedCluster, now: GuestFiles, label: str, progress: Progress
) -> tuple[Cluster, float]:
    """Save under ``label`` (replacing an earlier one). Return the cluster with its new processes,
    and for how many seconds it was paused.

    Raises `HostError` if it cannot be saved here or the disk is full or fails, `MachineError` if
    QEMU refuses the state; the cluster then continues.
    """
    if why := unsavable(cluster.record):
        raise HostError(f"cluster {cluster.name!r} cannot be saved: {why}")
    target = store.directory(cluster.name, label)
    work = target.with_name(f"{label}{store.WORK}")
    try:
        remove_tree(work)
        make_private(work.parent)
        make_private(work)
        with progress.stage("save"), ThreadPoolExecutor(max_workers=8) as pool:
            cluster, longest = _shared(cluster, boot, progress)
            _check_room(cluster, boot, work)
            shared = cluster.record.memory == "shared"
            if shared:
                cluster, pause = hand_over(cluster, boot, work)
                release_unused(cluster.name)
            else:
                pause = _stand_still(cluster, work)
            pause = max(pause, longest)
            for node in cluster.record.nodes:
                pool.submit(_set_clock, cluster, node.name, progress)
            sums = _copy_ram(cluster, work, progress) if shared else {}
            _keep(cluster, boot, now, label, work, sums)
            put_in_place(work, target)
            record = attrs.evolve(cluster.record, snapshot=label)
            write_record(record)
            cluster = cluster.as_of(record)
    except (OSError, DiskError) as error:
        raise _not_written(error, work) from error
    except MachineError as error:
        if known := blamed(str(error), work):  # QEMU writes the states
            raise _not_written(known, work) from error
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return cluster, pause


def _not_written(error: OSError | DiskError, work: Path) -> HostError:
    """Whatever the disk (or who may use it) refuses: the cluster has no fault."""
    known = disk_error(error, work) if isinstance(error, OSError) else error
    if isinstance(known, DiskFull):
        return _no_room(work)
    return HostError(
        f"the snapshot cannot be written: {known or error}; the cluster keeps running without one",
        where=known.where if known else str(work),
        hint=known.hint if known else "see whether the directory can be written to",
    )


def _no_room(work: Path, more: str = "") -> HostError:
    return HostError(
        f"not enough space for the snapshot{more}; the cluster keeps running without one",
        where=str(work),
        hint="`xk8s cache` shows what uses the space, `xk8s cache prune` and "
        "`xk8s snapshot remove` free some",
    )


def _check_room(cluster: Cluster, boot: BootedCluster, work: Path) -> None:
    """Raise an error early, before anything is paused or copied."""
    if cluster.record.memory == "shared":
        rams = [ram_path(cluster.name, planned.node.name) for planned in boot.nodes]
        needed = sum(path.stat().st_blocks * 512 for path in rams)
    else:
        needed = sum(planned.node.memory for planned in boot.nodes) << 20
    needed += _STATES * len(boot.nodes) + size_of_volumes(cluster.name)
    free = shutil.disk_usage(work).free
    if free < needed:
        raise _no_room(work, f": it takes {needed >> 20} MiB and {free >> 20} are free")


def _set_clock(cluster: Cluster, node: str, progress: Progress) -> None:
    try:
        Agent(cluster.sockets(node).agent, node).set_time()
    except MachineError as error:
        progress.note(f"the clock of {node} is late by the duration of the pause: {error}")


def copy_directory(source: Path, target: Path) -> None:
    """A copy, when there is one: a cluster without secrets has no keys. Links stay links."""
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)


def _shared(cluster: Cluster, boot: BootedCluster, progress: Progress) -> tuple[Cluster, float]:
    """Return the cluster with its RAM in files that hold all of it, if possible."""
    if cluster.record.memory == "shared":
        return cluster, 0.0
    try:
        return share(cluster, boot, progress)
    except (HostError, MachineError) as error:
        progress.note(f"all memory is written while the cluster is paused: {error}")
        record = read_record(cluster.name)
        return (cluster.as_of(record) if record else cluster), 0.0


def _stand_still(cluster: Cluster, work: Path) -> float:
    """RAM that is the VMs' own goes into the states, as a whole."""
    volumes = cluster.state_dir / VOLUMES
    names = [node.name for node in cluster.record.nodes]
    with (
        written_down(cluster.record, Unfinished(step="pause")),
        ExitStack() as stack,
        ThreadPoolExecutor(max_workers=len(names)) as pool,
    ):
        sessions = connect(stack, cluster.record, names)
        stopped = time.monotonic()
        try:
            each(pool, sessions, lambda _, qmp: qmp.execute("stop"))
            each(
                pool,
                sessions,
                lambda name, qmp: migrate.save(qmp, work / f"{name}.state", ram=True),
            )
            each(pool, sessions, lambda name, _: copy_volumes(volumes, work, name))
        finally:
            each(pool, sessions, lambda _, qmp: qmp.execute("cont"))
        pause = time.monotonic() - stopped
        write_record(cluster.record)
    return pause


def _copy_ram(cluster: Cluster, work: Path, progress: Progress) -> dict[str, str]:
    """Copy the RAM of all VMs to the disk; return the sums by file name."""
    sums = {}
    for node in cluster.record.nodes:
        progress.item(node.name, f"copying the memory of {node.name}")
        target = work / f"{node.name}.ram"
        sums[target.name] = sparse_copy(ram_path(cluster.name, node.name), target)
        progress.finish(node.name)
    return sums


def _keep(
    cluster: Cluster,
    boot: BootedCluster,
    now: GuestFiles,
    label: str,
    work: Path,
    sums: dict[str, str],
) -> None:
    """Make ``work`` a snapshot except for its name. All of it is on the disk then: after a power
    failure there is a whole snapshot or none.
    """
    state = state_dir(cluster.name)
    for name in (*KEPT_DIRECTORIES, LOCAL):
        copy_directory(state / name, work / name)
    for name in KEPT_FILES:
        shutil.copy2(state / name, work / name)
    copy_passed(state, work)
    for path in work.glob("*.state"):
        path.chmod(0o600)
    files, states, more = store.describe(work)
    value = store.Snapshot(
        cluster=cluster.name,
        label=label,
        key=now.key,
        machine=machine_key(boot.accel),
        digest=cluster.record.digest,
        overlays=cluster.record.overlays,
        nodes=tuple(node.name for node in cluster.record.nodes),
        created=time.time(),
        files=files,
        states=states,
        sums={**more, **sums},
        layers=store.layers_of(boot, now),
    )
    store.write(value, work)
    remember_snapshots(cache_dir())
