"""Access to a running cluster for every verb: by its record, without root."""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from xk8s.addresses import HOST_PART, address
from xk8s.build.artifacts.store import Store
from xk8s.checks import CheckContext
from xk8s.cluster.absent import ABSENCES, Absence, absence_text, ended, why_paused, without
from xk8s.cluster.resume import resumed, vm_states
from xk8s.cluster.state.node_paths import CONSOLES, qemu_log
from xk8s.cluster.state.record import Record, find_record, list_clusters, lock_file
from xk8s.cluster.state.request_file import read_request
from xk8s.cluster.state.secrets import PKI
from xk8s.context import Context, ExecResult
from xk8s.errors import AbsentError, MachineError, StateError, nearest
from xk8s.faults.recognise import core_hints
from xk8s.machine.net.namespace import Namespace
from xk8s.machine.qemu.agent import Agent
from xk8s.machine.qemu.command import Sockets
from xk8s.machine.qemu.session import GuestSession, Request, open_session
from xk8s.pki import Keys
from xk8s.planning.make_plan import make_plan
from xk8s.planning.plan import Plan
from xk8s.progress import Progress
from xk8s.sources import Artifact
from xk8s.util.host_memory import proportional_memory
from xk8s.util.lines import read_end
from xk8s.util.paths import cache_dir, is_locked, runtime_dir, state_dir

LOOPBACK = "127.0.0.1"


class Cluster:
    """A running cluster. Implements `xk8s.context.ClusterAccess`."""

    def __init__(self, record: Record, plan: Plan | None = None) -> None:
        """``plan`` spares making it again from the kept request."""
        self.record = record
        self._plan = plan

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self.record.name

    @functools.cached_property
    def plan(self) -> Plan:
        """The plan it was started with, made again from the kept request."""
        return self._plan or make_plan(read_request(self.name))

    def as_of(self, record: Record) -> Cluster:
        """Return this cluster with another record; its plan is not made again."""
        return Cluster(record, self._plan or self.__dict__.get("plan"))

    @property
    def ctx(self) -> Context:
        """The context of its plan."""
        return self.plan.ctx

    @property
    def checks(self) -> CheckContext:
        """What its checks get."""
        return CheckContext(access=self)

    @property
    def state_dir(self) -> Path:
        """Directory with kubeconfig, consoles and records."""
        return state_dir(self.name)

    @property
    def keys(self) -> Keys:
        """The cluster's own keys."""
        return Keys(self.state_dir / PKI)

    def fetch(self, artifacts: Sequence[Artifact], progress: Progress) -> Mapping[str, Path]:
        """Trees of artifacts by key. See `ClusterAccess.fetch`."""
        found = Store(cache_dir()).get_many(list(artifacts), progress)
        return {key: resolved.path for key, resolved in found.items()}

    @property
    def runtime_dir(self) -> Path:
        """Directory with its sockets."""
        return runtime_dir(self.name)

    @functools.cached_property
    def namespace(self) -> Namespace:
        """Return its network namespace; `MachineError` if the holder is gone."""
        return Namespace.attach(self.runtime_dir)

    def sockets(self, node: str) -> Sockets:
        """Return the unix sockets of a node; `StateError` for an unknown one."""
        return self.record.sockets(self.record.node(node).name)

    def agent(self, node: str) -> Agent:
        """Return the guest agent of a node."""
        self.check_present(node)
        return Agent(self.sockets(node).agent, node)

    def session(
        self, node: str, request: Request
    ) -> contextlib.AbstractContextManager[GuestSession]:
        """Start a program in a guest, with streams. See `open_session`."""
        self.check_present(node)
        return open_session(self.sockets(node).sessions, node, request)

    def console_log(self, node: str) -> Path:
        """Return what the node's kernel and init printed."""
        return self.state_dir / CONSOLES / f"{self.record.node(node).name}.log"

    def forward(self, name: str) -> tuple[str, int]:
        """(host, port) of a named forward; KeyError when no node has it."""
        for node in self.record.nodes:
            if name in node.forwards:
                return LOOPBACK, node.forwards[name]
        raise KeyError(f"cluster {self.name!r} has no forward {name!r}")

    def run(
        self, node: str, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0
    ) -> ExecResult:
        """Run a command in a guest by its agent. See `ClusterAccess.run`."""
        return self.agent(node).exec(argv, stdin=stdin, timeout=timeout)

    def listen(self) -> socket.socket:
        """A server that VMs reach at their gateway. See `ClusterAccess.listen`."""
        return self.namespace.listen(address(0, HOST_PART))

    def dial(self, address: str, port: int, *, timeout: float = 5.0) -> socket.socket:
        """A TCP connection made in the cluster's namespace. See `ClusterAccess.dial`."""
        return self.namespace.dial(address, port, timeout=timeout)

    def alive(self, node: str) -> bool:
        """Return whether the node's QEMU runs."""
        return self.record.node(node).process.alive

    @property
    def absent(self) -> dict[str, Absence]:
        """Nodes that do not take part at the moment, by name, and why."""
        return self._absent([node.name for node in self.record.nodes])

    def absence(self, node: str) -> Absence | None:
        """Return why a node does not take part; None for one that does."""
        if not self.alive(node):
            return "dead"
        return why_paused(self.record, self.record.node(node))

    def _absent(self, nodes: Sequence[str]) -> dict[str, Absence]:
        found = {name: self.absence(name) for name in nodes}
        return {name: absence for name, absence in found.items() if absence is not None}

    def check_alive(self, *nodes: str) -> None:
        """`AbsentError` when one of these VMs (by default of all) is dead."""
        self._refuse(nodes, ("dead",))

    def check_present(self, *nodes: str) -> None:
        """`AbsentError` when one of these VMs (by default of all) is dead or paused."""
        self._refuse(nodes, ABSENCES)

    def _refuse(self, nodes: Sequence[str], absences: Collection[str]) -> None:
        for name, absence in (self._absent(nodes) if nodes else self.absent).items():
            if absence in absences:
                console = self.console_log(name)
                # The end of a console would be a login prompt, and not the reason.
                raise AbsentError(
                    absence_text(self.name, name, absence),
                    where=str(console),
                    log=tail(qemu_log(console)),
                    faults=faults_in(console),
                )

    def without(self, absent: Collection[str]) -> Cluster:
        """Return this cluster as its overlays should see it while some nodes do not take part: with
        the nodes alone that `xk8s.cluster.absent.without` leaves. It is not to be written down.
        """
        if not absent:
            return self
        plan = without(self.plan, absent)
        names = {node.name for node in plan.ctx.nodes}
        left = tuple(node for node in self.record.nodes if node.name in names)
        return Cluster(attrs.evolve(self.record, nodes=left), plan)

    def status(self) -> dict[str, Any]:
        """Return JSON data: phase ("ended" when no VM runs any more, "paused" when none of those
        that are left does, "interrupted" when a command that worked on them was killed), nodes with
        their state, addresses, memory in MiB (host's share: PSS).
        """
        planned = {node.name: node for node in self.ctx.nodes}
        states = vm_states(self.record, timeout=2.0)
        phase = phase_of(self.record, states)
        if phase == "ended":
            states = dict.fromkeys(states, "ended")
        return {
            "name": self.name,
            "phase": phase,
            "overlays": list(self.record.overlays),
            "accel": self.record.accel,
            "digest": self.record.digest,
            "seconds": self.record.seconds,
            "nodes": [
                {
                    "name": node.name,
                    "role": node.role,
                    "running": states[node.name] not in ("dead", "ended"),
                    "state": states[node.name],
                    "pid": node.pid,
                    "cpus": planned[node.name].cpus,
                    "memory_mib": planned[node.name].memory,
                    "host_memory_mib": proportional_memory(node.pid) >> 20,
                    "addresses": [
                        address
                        for nic in planned[node.name].nics
                        for address in (nic.ipv4, nic.ipv6)
                        if nic.network != 0
                    ],
                    "forwards": node.forwards,
                }
                for node in self.record.nodes
            ],
        }


def open_cluster(name: str, *, resume: bool = True) -> Cluster:
    """Return the cluster of that name; `StateError` when there is none. What a killed command left
    half done to its VMs is finished or taken back first, unless ``resume`` is false.
    """
    record = find_record(name)
    if record is None:
        known = list_clusters()
        more = f"there are: {', '.join(known)}" if known else "start one with `xk8s up`"
        raise StateError(
            f"there is no cluster {name!r}",
            where=str(state_dir(name)),
            hint=f"{nearest(name, known)}{more}",
        )
    return Cluster(resumed(record) if resume else record)


def phase_of(record: Record, states: Mapping[str, str] | None = None) -> str:
    """Return the phase that is true now, whatever became of the VMs since it was written down;
    ``states`` are those of the VMs if they were asked.
    """
    if not record.alive and record.phase != "starting":
        return "ended"
    if record.unfinished is not None and not is_locked(lock_file(record.name)):
        return "interrupted"
    if states and {*states.values()} <= {*ABSENCES}:
        return "paused"
    return record.phase


def open_started(name: str) -> Cluster:
    """Return a cluster that was started completely, checks passed or not; nodes of it may be
    absent. `StateError` of one that an `up` has not started to its end, or whose VMs all died.
    """
    cluster = open_complete(name)
    if not cluster.record.alive:
        raise ended(name)
    return cluster


def open_complete(name: str) -> Cluster:
    """Return a cluster that an `up` has started to its end, whatever became of its VMs since;
    `StateError` of any other.
    """
    cluster = open_cluster(name)
    if cluster.record.phase == "starting":
        raise StateError(
            f"cluster {name!r} did not start completely", hint="xk8s down, then xk8s up"
        )
    return cluster


def machine_error(message: str, console: Path, *, hint: str) -> MachineError:
    """Return an error with the end of a VM's console, and the faults recognised there and in QEMU's
    output.
    """
    return MachineError(
        message, where=str(console), hint=hint, log=tail(console), faults=faults_in(console)
    )


def faults_in(console: Path) -> tuple[str, ...]:
    """Return the faults recognised in a VM's console and in QEMU's output."""
    texts = []
    for path in (console, qemu_log(console)):
        with contextlib.suppress(OSError):
            texts.append(read_end(path))
    return core_hints(*texts)


def tail(path: Path, lines: int = 30) -> str:
    """Return the last lines of a text file, or "" when it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 200 * lines))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
