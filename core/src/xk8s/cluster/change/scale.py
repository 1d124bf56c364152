"""Changing the number of nodes of a running cluster, while all others keep running.

The new plan is the kept one with other counts. New nodes are started from the current layers;
overlays are informed of leaving ones before these end; and what the others have to know (addresses,
routes) is applied like any other change of their files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import attrs
from attrs import frozen

from xk8s.cluster.change.applied import Applied
from xk8s.cluster.change.apply import Checks, plan_again, put
from xk8s.cluster.change.needs_reboot import refuse
from xk8s.cluster.change.power_on_nodes import changed_nodes, new_nodes, power_on_nodes
from xk8s.cluster.handle import Cluster, open_started
from xk8s.cluster.inputs import ClusterInputs
from xk8s.cluster.prepare import Clock, make_inputs
from xk8s.cluster.resume import written_down
from xk8s.cluster.state.booted import BootedCluster, BootedNode, read_boot, write_boot
from xk8s.cluster.state.guest_files import GuestFiles, read_guest_files, write_guest_files
from xk8s.cluster.state.node_paths import remove_node
from xk8s.cluster.state.operation_log import operation_log
from xk8s.cluster.state.record import Record, Unfinished, locked, write_record
from xk8s.cluster.state.request_file import write_counts
from xk8s.progress import Progress
from xk8s.util.processes import end


@frozen(kw_only=True)
class Scaled:
    """What became of it: names of nodes, and what changed in those that stayed."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    applied: Applied

    def to_json(self) -> dict[str, Any]:
        """Return data for programs."""
        return {
            "added": list(self.added),
            "removed": list(self.removed),
            **self.applied.to_json(),
        }


def scale(
    name: str, counts: Mapping[str, int], progress: Progress, *, checks: Checks = "changed"
) -> Scaled:
    """Bring a running cluster to these counts (names of `ClusterSettings`: nodes, …).

    Raises `PlanError` if it takes a reboot (another change of the cluster's sources does);
    `StateError` if there is no such cluster; `HostError` for lack of memory; `MachineError` if a
    new node does not boot: the cluster is then as it was; `CheckFailed`. A killed one is
    finished or taken back by the next command.
    """
    with locked(name), ExitStack() as held:
        cluster = open_started(name)
        held.enter_context(operation_log(name, "scale"))
        clock = Clock(progress)
        with clock.stage("plan"):
            sets = tuple(f"cluster.{key}={count}" for key, count in counts.items())
            plan = plan_again(name, (), sets)
        inputs = make_inputs(plan, clock, held)
        phase = cluster.record.phase
        work = _Scale(cluster, inputs, clock, counts)
        if work.removed:
            with clock.stage("leave"):
                work.leave()
        if work.added:
            with clock.stage("join"):
                work.join()
        # On the disk it is "failed" until the others know; `put` asks what it was before.
        scaled = work.cluster.as_of(attrs.evolve(work.cluster.record, phase=phase))
        applied = put(scaled, inputs, clock, checks=checks)
        return Scaled(added=work.added, removed=work.removed, applied=applied)


class _Scale:
    def __init__(
        self, cluster: Cluster, inputs: ClusterInputs, clock: Clock, counts: Mapping[str, int]
    ) -> None:
        self.cluster, self.inputs, self.clock, self.counts = cluster, inputs, clock, counts
        self.state = cluster.state_dir
        self.boot: BootedCluster = read_boot(self.state)
        self.now: GuestFiles = read_guest_files(self.state)
        after = [planned.node.name for planned in inputs.plan.nodes]
        there = {booted.node.name for booted in self.boot.nodes}
        self.added = tuple(name for name in after if name not in there)
        self.removed = tuple(name for name in sorted(there) if name not in after)
        self.new = new_nodes(cluster, inputs, self.boot, self.added)
        # Before anything is touched: what else is different must be such that it can be applied.
        refuse(*changed_nodes(self.boot, self.now, more=self.new, less=self.removed), inputs)
        settings = cluster.plan.cluster
        self.before: dict[str, int] = {key: getattr(settings, key) for key in counts}

    def leave(self) -> None:
        """Tell overlays, the highest first; end the VMs, and forget them. Killed before the first
        VM ends it has not begun; after that the next command forgets them.
        """
        plan, record = self.cluster.plan, self.cluster.record
        counts = {key: min(count, self.before[key]) for key, count in self.counts.items()}
        unfinished = Unfinished(step="leave", names=self.removed, counts=counts)
        with written_down(attrs.evolve(record, phase="failed"), unfinished):
            for overlay in reversed(plan.ctx.overlays):
                plan.registry.hooks.leave(overlay, self.cluster, self.removed, self.clock)
            end((record.node(name).process for name in self.removed), grace=0)
            self._close_ports(self.boot.nodes, self.removed)
            nodes = tuple(node for node in record.nodes if node.name not in self.removed)
            record = attrs.evolve(record, phase="failed", nodes=nodes)
            without = attrs.evolve(record, unfinished=unfinished)
            self._write(*changed_nodes(self.boot, self.now, less=self.removed), counts, without)
            for name in self.removed:
                remove_node(self.cluster.name, name)
            write_record(record)
            self.cluster = self.cluster.as_of(record)
        self.before |= counts

    def join(self) -> None:
        """Start the new VMs; when one does not come up, or the command is killed meanwhile, none of
        them stays.
        """
        record = self.cluster.record
        unfinished = Unfinished(
            step="join", names=self.added, counts=self.before, phase=record.phase
        )
        with written_down(attrs.evolve(record, phase="failed"), unfinished), ExitStack() as undo:
            undo.callback(self._close_ports, self.new.boot.nodes, self.added)
            record, new = power_on_nodes(self.cluster, self.inputs, self.new, self.clock)
            counts = {**self.before, **self.counts}
            self._write(*changed_nodes(self.boot, self.now, more=new), counts, record)
            undo.pop_all()

    def _close_ports(self, nodes: Iterable[BootedNode], names: Sequence[str]) -> None:
        """Close the ports of this machine that lead to nodes of these names."""
        for booted in nodes:
            if booted.node.name in names:
                self.cluster.namespace.forget(booted.management_address)

    def _write(
        self, boot: BootedCluster, now: GuestFiles, counts: Mapping[str, int], record: Record
    ) -> None:
        """Write down which VMs there are now. Until the record is written, nothing has changed."""
        write_counts(self.cluster.name, counts)
        write_guest_files(now, self.state)
        write_boot(boot, self.state)
        write_record(record)
        self.boot, self.now = boot, now
        self.cluster = Cluster(record, self.inputs.plan)
