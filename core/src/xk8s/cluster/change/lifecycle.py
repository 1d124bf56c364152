"""Single VMs of a running cluster: pause, resume, kill, start, reboot.

A node's whole state is its memory. A paused one keeps it; one that died comes back as it
is when it boots for the first time, with its number, addresses and role.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import attrs
from attrs import frozen

from xk8s.cluster.change.applied import Applied
from xk8s.cluster.change.apply import Checks, plan_again, put
from xk8s.cluster.change.needs_reboot import refuse, refuse_plan
from xk8s.cluster.change.power_on_nodes import changed_nodes, new_nodes, power_on_nodes
from xk8s.cluster.handle import Cluster, open_complete
from xk8s.cluster.inputs import ClusterInputs
from xk8s.cluster.prepare import Clock, make_inputs
from xk8s.cluster.resume import OUT_OF_SPACE, vm_state, written_down
from xk8s.cluster.state.booted import read_boot, write_boot
from xk8s.cluster.state.guest_files import read_guest_files, write_guest_files
from xk8s.cluster.state.node_paths import pause_mark
from xk8s.cluster.state.operation_log import operation_log
from xk8s.cluster.state.passed_checks import forget_passed
from xk8s.cluster.state.record import Record, Unfinished, locked, write_record
from xk8s.errors import MachineError, StateError
from xk8s.machine.qemu import migrate
from xk8s.machine.qemu.agent import Agent
from xk8s.machine.qemu.qmp import Qmp
from xk8s.progress import Progress
from xk8s.util.paths import write_private
from xk8s.util.processes import end

SHUTDOWN_SECONDS = 120.0
"""So long a guest may take to shut down before its VM is killed."""


@frozen(kw_only=True)
class Started:
    """Nodes that were started, and what changed in all others since. None: nothing was dead."""

    nodes: tuple[str, ...]
    applied: Applied | None = None

    def to_json(self) -> dict[str, Any]:
        """Return data for programs."""
        return {"started": list(self.nodes), **(self.applied.to_json() if self.applied else {})}


def pause(name: str, nodes: Sequence[str], progress: Progress) -> None:
    """Pause VMs: their CPUs execute nothing until `resume`."""
    with locked(name):
        cluster = _opened(name, nodes)
        with operation_log(name, "node-pause"):
            cluster.check_alive(*nodes)
            for node in nodes:
                # The mark first: it says why the VM is paused.
                write_private(pause_mark(name, node), b"")
                with Qmp(cluster.sockets(node).qmp, node) as qmp:
                    qmp.execute("stop")
                progress.finish(node)


def resume(name: str, nodes: Sequence[str], progress: Progress) -> None:
    """Let VMs run again, with the right time. `MachineError` for a dead one."""
    with locked(name):
        cluster = _opened(name, nodes)
        with operation_log(name, "node-resume"):
            cluster.check_alive(*nodes)
            paused = [node for node in nodes if _let_run(cluster, node)]
            if paused:
                with ThreadPoolExecutor(max_workers=8) as pool:
                    list(pool.map(lambda node: cluster.agent(node).set_time(), paused))
                if not read_guest_files(cluster.state_dir).key:
                    progress.note("some nodes lack what was applied meanwhile: xk8s apply")


def kill(name: str, nodes: Sequence[str], progress: Progress) -> None:
    """End VMs at once, as a loss of power does."""
    with locked(name):
        cluster = _opened(name, nodes)
        with operation_log(name, "node-kill"):
            _kill(cluster, nodes)
            for node in nodes:
                progress.finish(node)


def start(
    name: str, nodes: Sequence[str], progress: Progress, *, checks: Checks = "changed"
) -> Started:
    """Boot dead VMs again from what the cluster's request gives now, bring all others to the same,
    and run the checks. VMs that are alive stay as they are.

    Raises `PlanError` if the plan takes a reboot of the others; `MachineError` if one does not
    boot: it is dead again then; `CheckFailed`.
    """
    with locked(name), ExitStack() as held:
        cluster = _opened(name, nodes)
        held.enter_context(operation_log(name, "node-start"))
        return _start(cluster, nodes, Clock(progress), held, checks)


def reboot(
    name: str,
    nodes: Sequence[str],
    progress: Progress,
    *,
    force: bool = False,
    timeout: float = SHUTDOWN_SECONDS,
    checks: Checks = "changed",
) -> Started:
    """Shut down VMs, kill those that are not down after ``timeout`` seconds (with ``force``: all at
    once), and `start` them. Dead ones are started.
    """
    with locked(name), ExitStack() as held:
        cluster = _opened(name, nodes)
        held.enter_context(operation_log(name, "node-reboot"))
        clock = Clock(progress)
        with clock.stage("shutdown"):
            if not force:
                _shut_down(cluster, nodes, clock, timeout)
            _kill(cluster, nodes)
        return _start(cluster, nodes, clock, held, checks)


def _opened(name: str, nodes: Sequence[str]) -> Cluster:
    """Return the cluster; `StateError` unless it was started to its end and has all ``nodes``."""
    cluster = open_complete(name)
    for node in nodes:
        cluster.record.node(node)
    return cluster


def _let_run(cluster: Cluster, node: str) -> bool:
    """Let a VM run; return whether it was paused."""
    state = vm_state(cluster.record, cluster.record.node(node))
    paused = state in ("paused", OUT_OF_SPACE)
    if paused:
        with Qmp(cluster.sockets(node).qmp, node) as qmp:
            migrate.run_on(qmp)
    pause_mark(cluster.name, node).unlink(missing_ok=True)
    return paused


def _kill(cluster: Cluster, nodes: Sequence[str]) -> None:
    if stuck := end((cluster.record.node(node).process for node in nodes), grace=0):
        pids = ", ".join(str(process.pid) for process in stuck)
        raise MachineError(f"processes do not end: {pids}", hint="inspect them with ps")
    for node in nodes:
        pause_mark(cluster.name, node).unlink(missing_ok=True)


def _shut_down(cluster: Cluster, nodes: Sequence[str], clock: Clock, timeout: float) -> None:
    """Ask guests to power off, and wait until they did. One that is asked and does not is noted."""
    waiting = []
    for node in nodes:
        if cluster.alive(node):
            _let_run(cluster, node)
            clock.item(node, "shutting down")
            try:
                with Qmp(cluster.sockets(node).qmp, node) as qmp:
                    qmp.end_with_reboot()  # whichever way its base ends it
                Agent(cluster.sockets(node).agent, node).shutdown()
            except MachineError as error:
                clock.note(f"killing {node}: {error}")
            else:
                waiting.append(node)
    deadline = time.monotonic() + timeout
    while waiting := [node for node in waiting if cluster.alive(node)]:
        if time.monotonic() > deadline:
            clock.note(f"killing {', '.join(waiting)}: not down after {timeout:.0f} s")
            return
        time.sleep(0.1)


def _start(
    cluster: Cluster, nodes: Sequence[str], clock: Clock, held: ExitStack, checks: Checks
) -> Started:
    dead = tuple(sorted({node for node in nodes if not cluster.alive(node)}))
    if not dead:
        return Started(nodes=())
    try:
        cluster.namespace  # noqa: B018 - attached now, or not at all
    except MachineError:
        raise StateError(
            f"cluster {cluster.name!r} has ended: its networks are gone",
            hint="`xk8s up` or `xk8s reset` starts it again, `xk8s down` removes what is left",
        ) from None
    with clock.stage("plan"):
        plan = plan_again(cluster.name, (), ())
        refuse_plan(read_boot(cluster.state_dir), plan)
    inputs = make_inputs(plan, clock, held)
    phase = cluster.record.phase
    with clock.stage("boot"):
        record = _boot(cluster, inputs, dead, clock)
    forget_passed(cluster.state_dir)  # of the node that has just booted
    # On the disk it is "failed" until all is well; `put` asks what it was before.
    started = Cluster(attrs.evolve(record, phase=phase), inputs.plan)
    return Started(nodes=dead, applied=put(started, inputs, clock, checks=checks))


def _boot(cluster: Cluster, inputs: ClusterInputs, dead: Sequence[str], clock: Clock) -> Record:
    state, record = cluster.state_dir, cluster.record
    boot, now = read_boot(state), read_guest_files(state)
    new = new_nodes(cluster, inputs, boot, dead)
    # Before anything is touched: what else is different must be such that it can be applied.
    refuse(*changed_nodes(boot, now, more=new), inputs)
    unfinished = Unfinished(step="start", names=tuple(dead), phase=record.phase)
    with written_down(attrs.evolve(record, phase="failed"), unfinished):
        record, new = power_on_nodes(cluster, inputs, new, clock)
        boot, now = changed_nodes(boot, now, more=new)
        write_guest_files(now, state)
        write_boot(boot, state)
        write_record(record)
    return record
