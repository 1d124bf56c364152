"""What a killed command left half done to VMs: finish it, or take it back.

Each step that stops, replaces, adds or removes VMs is written down before it begins (`Unfinished`,
in the record). Whoever finds that, and the cluster's lock free, calls `resume`. It asks the
processes themselves how far the command came, may itself be killed at any moment, and ends
QEMUs that the record does not know.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import attrs

from xk8s.cluster.state.booted import BootedNode, read_boot, write_boot
from xk8s.cluster.state.guest_files import read_guest_files, write_guest_files
from xk8s.cluster.state.node_paths import PROMISED, moved_ram_path, ram_path, remove_node
from xk8s.cluster.state.record import (
    NodeRecord,
    Phase,
    Record,
    Unfinished,
    check_runtime,
    find_record,
    holds_lock,
    lock_file,
    locked,
    read_record,
    sockets_of,
    write_record,
)
from xk8s.cluster.state.request_file import write_counts
from xk8s.errors import MachineError, StateError
from xk8s.machine.net.namespace import Namespace
from xk8s.machine.qemu import migrate
from xk8s.machine.qemu.qmp import Qmp
from xk8s.util.log import get_logger
from xk8s.util.paths import is_locked, memory_dir, runtime_dir, state_dir
from xk8s.util.processes import Process, end, leftovers

log = get_logger(__name__)

INCOMING = "inmigrate"
"""Status of a QEMU that waits for a state."""
MOVED = "postmigrate"
"""Status of a QEMU whose VM is in another one."""
OUT_OF_SPACE: Final = "out of disk space"
"""State of a VM that is paused since it wrote to a volume on a full disk of this machine."""
_SECONDS = 60.0


def resumed(record: Record) -> Record:
    """Return the record after `resume`, if it takes that. While another command works on the
    cluster, what is unfinished is that command's.
    """
    if record.unfinished is None:
        return record
    if holds_lock(record.name):
        return _resumed(record)
    if is_locked(lock_file(record.name)):
        return record
    with locked(record.name):
        return _resumed(read_record(record.name) or record)


def _resumed(record: Record) -> Record:
    if record.unfinished is not None:
        log.warning("killed_command_resumed", cluster=record.name, step=record.unfinished.step)
    return resume(record)


def resume(record: Record) -> Record:
    """Finish what a command left unfinished, or take it back; the VMs that remain run. The caller
    holds the lock. `MachineError` if QEMU does not do it: then calling it again continues.
    """
    unfinished = record.unfinished
    if unfinished is None:
        return record
    done = _STEPS[unfinished.step](record, unfinished)
    end(_strays(done), grace=0)
    done = attrs.evolve(done, unfinished=None)
    write_record(done)
    # From now on the files count, until room is promised again.
    (memory_dir(record.name) / PROMISED).unlink(missing_ok=True)
    log.info("unfinished_step_ended", cluster=record.name, step=unfinished.step,
             nodes=[node.name for node in done.nodes])  # fmt: skip
    return done


def check_free(name: str) -> None:
    """`StateError` when processes of the cluster run, unless they are those of an `up` that was
    killed. Processes of which nothing is known are not swept either.
    """
    living = leftovers(runtime_dir(name))
    try:
        record = read_record(name)
    except StateError:
        if living:
            raise
        return
    if record is None:
        find_record(name)
        return
    check_runtime(record)
    if record.phase != "starting" and living:
        resumed(record)
        raise StateError(
            f"cluster {name!r} is already up",
            where=str(state_dir(name)),
            hint="xk8s down, or use another --name",
        )


@contextmanager
def written_down(record: Record, unfinished: Unfinished) -> Iterator[None]:
    """Let ``unfinished`` be known while the block works. The block writes the record that is right
    afterwards; when it raises, what it did is finished or taken back at once.
    """
    write_record(attrs.evolve(record, unfinished=unfinished))
    try:
        yield
    except BaseException:
        if left := read_record(record.name):
            resume(left)
        raise


def check_running(record: Record, *, but: Container[str] = ()) -> None:
    """`MachineError` unless all VMs run, ``but`` for some: each process is asked. Before a cluster
    is called "up".
    """
    for name, state in vm_states(record).items():
        if state != "running" and name not in but:
            raise MachineError(
                f"{name}: the VM does not run: {state}",
                where=str(state_dir(record.name)),
                hint=f"`xk8s status --name {record.name}` shows all of them",
            )


def vm_states(record: Record, *, timeout: float = _SECONDS) -> dict[str, str]:
    """Return the `vm_state` of each VM, by name."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        states = list(pool.map(lambda node: vm_state(record, node, timeout=timeout), record.nodes))
    return {node.name: state for node, state in zip(record.nodes, states, strict=True)}


def vm_state(record: Record, node: NodeRecord, *, timeout: float = _SECONDS) -> str:
    """State of a VM: "running", "paused", "dead" (no process), `OUT_OF_SPACE`, or another one of
    QEMU's; "busy" if it does not answer within ``timeout`` seconds.
    """
    if not node.process.alive:
        return "dead"
    try:
        with Qmp(record.sockets(node.name).qmp, node.name, timeout=timeout) as qmp:
            status = qmp.status()
    except MachineError:
        return "busy" if node.process.alive else "dead"
    if status == migrate.NO_ROOM:
        return OUT_OF_SPACE
    return "paused" if status in migrate.STOPPED else status


# --- one function for each step ---------------------------------------------------------


def _pause(record: Record, _: Unfinished) -> Record:
    """Let all VMs run that were paused so that their states could be written."""
    return _let_run(record, record.nodes)


def _hand_over(record: Record, unfinished: Unfinished) -> Record:
    """While all old processes live, the new ones have not run: back to the old ones. The first of
    these ends when all new ones have their states: then the new ones it is.
    """
    new = {node.name: node for node in unfinished.nodes}
    if all(node.process.alive for node in record.nodes):
        return _let_run(record, record.nodes)
    chosen = tuple(
        new[node.name] if node.name in new and _loaded(record, new[node.name]) else node
        for node in record.nodes
    )
    return _taken_over(record, chosen)


def _move(record: Record, unfinished: Unfinished) -> Record:
    """The VM is where its state is: in the new process once the transfer was completed."""
    (name,) = unfinished.names
    old = record.node(name)
    there = bool(unfinished.nodes) and _moved(record, old, unfinished.nodes[0])
    source, target = moved_ram_path(record.name, name), ram_path(record.name, name)
    if not there:
        # First, or one that has only just been started creates its file afterwards.
        end(_strays(record), grace=0)
        source.unlink(missing_ok=True)
        return _let_run(record, (old,))
    if source.exists():
        source.rename(target)
    chosen = tuple(unfinished.nodes[0] if node.name == name else node for node in record.nodes)
    return attrs.evolve(_taken_over(record, chosen), memory=record.memory)


def _join(record: Record, unfinished: Unfinished) -> Record:
    """The new VMs are ended: nobody knows them yet."""
    return _without(record, unfinished, unfinished.phase)


def _start(record: Record, unfinished: Unfinished) -> Record:
    """The VMs that were about to come back are ended: the record has the dead ones."""
    return attrs.evolve(record, phase=unfinished.phase)


def _leave(record: Record, unfinished: Unfinished) -> Record:
    """VMs end after all overlays have prepared for it. Before that they stay."""
    leaving = [node for node in record.nodes if node.name in unfinished.names]
    if leaving and all(node.process.alive for node in leaving):
        return attrs.evolve(record, phase="failed")
    end((node.process for node in leaving), grace=0)
    return _without(record, unfinished, "failed")


_STEPS: Mapping[str, Callable[[Record, Unfinished], Record]] = {
    "pause": _pause,
    "hand over": _hand_over,
    "move": _move,
    "join": _join,
    "leave": _leave,
    "start": _start,
}


# --- parts ------------------------------------------------------------------------------


def _session(record: Record, node: NodeRecord) -> Qmp:
    generation = record.generation if node.generation is None else node.generation
    return Qmp(sockets_of(record.name, node.name, generation).qmp, node.name, timeout=_SECONDS)


def _let_run(record: Record, nodes: Iterable[NodeRecord]) -> Record:
    for node in nodes:
        if node.process.alive:
            with _session(record, node) as qmp:
                migrate.run_on(qmp)
    return record


def _loaded(record: Record, node: NodeRecord) -> bool:
    """Whether a new process has its state."""
    if not node.process.alive:
        return False
    with _session(record, node) as qmp:
        return qmp.status() != INCOMING


def _moved(record: Record, old: NodeRecord, new: NodeRecord) -> bool:
    """Whether the VM is in its new process, or will be in a moment."""
    if old.process.alive:
        with _session(record, old) as qmp:
            # Of the status of transfers "completed" may be that of an earlier one.
            if migrate.cancel(qmp) != "completed" or qmp.status() != MOVED:
                return False
    deadline = time.monotonic() + _SECONDS
    while new.process.alive and not _loaded(record, new):
        if not old.process.alive or time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return new.process.alive


def _taken_over(record: Record, chosen: tuple[NodeRecord, ...]) -> Record:
    """Let the chosen process of each node run, and no other."""
    kept = {node.process for node in chosen}
    end((node.process for node in record.nodes if node.process not in kept), grace=0)
    _let_run(record, chosen)
    if all(node.process == record.node(node.name).process for node in chosen):
        return attrs.evolve(record, nodes=chosen)
    generation = max(node.generation or 0 for node in chosen)
    return attrs.evolve(record, memory="private", generation=generation, nodes=chosen)


def _without(record: Record, unfinished: Unfinished, phase: Phase) -> Record:
    """Forget nodes wherever they are written down; their counts in the request too."""
    name, gone = record.name, {*unfinished.names}
    state = state_dir(name)
    left = attrs.evolve(
        record, nodes=tuple(node for node in record.nodes if node.name not in gone), phase=phase
    )
    end(_strays(left), grace=0)
    boot, now = read_boot(state), read_guest_files(state)
    nodes = {node: files for node, files in now.nodes.items() if node not in gone}
    booted = tuple(planned for planned in boot.nodes if planned.node.name not in gone)
    write_counts(name, unfinished.counts)
    write_boot(attrs.evolve(boot, nodes=booted), state)
    write_guest_files(attrs.evolve(now, key="", nodes=nodes), state)
    for planned in boot.nodes:
        if planned.node.name in gone:
            _close_ports(name, planned)
    for node in gone:
        remove_node(name, node)
    return left


def _close_ports(cluster: str, booted: BootedNode) -> None:
    """Close the ports of this machine that lead to a node, unless they have gone with the
    namespace.
    """
    with contextlib.suppress(MachineError):
        Namespace.attach(runtime_dir(cluster)).forget(booted.management_address)


def _strays(record: Record) -> tuple[Process, ...]:
    """QEMUs of the cluster that its record does not know."""
    known = {node.process for node in record.nodes}
    return tuple(
        process
        for process in leftovers(runtime_dir(record.name))
        if process not in known and " -pidfile " in process.command
    )
