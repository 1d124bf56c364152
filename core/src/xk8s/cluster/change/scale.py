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

from xk8s.cluster.change.apply import Applied, Checks, plan_again, put
from xk8s.cluster.change.needs_reboot import refuse
from xk8s.cluster.checks.guest_needs import check_guests
from xk8s.cluster.handle import Cluster, open_started
from xk8s.cluster.inputs import ClusterInputs
from xk8s.cluster.prepare import Clock, make_inputs
from xk8s.cluster.state.booted import BootedCluster, BootedNode, boot_of, read_boot, write_boot
from xk8s.cluster.state.guest_files import (
    GuestFiles,
    node_files,
    read_guest_files,
    write_guest_files,
)
from xk8s.cluster.state.operation_log import operation_log
from xk8s.cluster.state.record import CONSOLES, NodeRecord, Record, locked, qemu_log, write_record
from xk8s.cluster.state.secrets import PKI, flat, secrets
from xk8s.cluster.vms import launch
from xk8s.cluster.vms.power_on import power_on
from xk8s.cluster.vms.ram import ram_directory, ram_path, room_for_memory
from xk8s.cluster.vms.ram_template import get_templates
from xk8s.errors import HostError
from xk8s.overlay import File
from xk8s.pki import Keys
from xk8s.progress import Progress
from xk8s.util.paths import memory_dir, runtime_dir
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
    new node does not boot: the cluster is then as it was; `CheckFailed`.
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
        work = _Scale(cluster, inputs, clock)
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
    def __init__(self, cluster: Cluster, inputs: ClusterInputs, clock: Clock) -> None:
        self.cluster, self.inputs, self.clock = cluster, inputs, clock
        self.state = cluster.state_dir
        self.boot: BootedCluster = read_boot(self.state)
        self.now: GuestFiles = read_guest_files(self.state)
        self.after = {booted.node.name: booted for booted in boot_of(inputs).nodes}
        there = {booted.node.name for booted in self.boot.nodes}
        self.added = tuple(name for name in self.after if name not in there)
        self.removed = tuple(name for name in sorted(there) if name not in self.after)
        new = tuple(self.after[name] for name in self.added)
        self.new = attrs.evolve(self.boot, nodes=new)
        keys = Keys(self.state / PKI)
        self.own: dict[str, Sequence[File]] = {
            planned.node.name: flat(secrets(inputs.plan, planned.node, keys))
            for planned in inputs.plan.nodes
            if planned.node.name in self.added
        }
        # Before anything is touched: what else is different must be such that it can be applied.
        refuse(*self._with(self.added, self.removed), inputs)

    def leave(self) -> None:
        """Tell overlays, the highest first; end the VMs, and forget them."""
        plan = self.cluster.plan
        for overlay in reversed(plan.ctx.overlays):
            plan.registry.hooks.leave(overlay, self.cluster, self.removed, self.clock)
        end((self.cluster.record.node(name).process for name in self.removed), grace=0)
        self._forget(planned for planned in self.boot.nodes if planned.node.name in self.removed)
        self._write(*self._with((), self.removed), self._record_without(self.removed))
        self._remove_files(self.removed)

    def join(self) -> None:
        """Start the new VMs; when one does not come up, none of them stays."""
        before = (self.boot, self.now, self.cluster.record)
        boot, now = self._with(self.added, ())
        started: tuple[NodeRecord, ...] = ()
        try:
            self._check_room()
            launch.write_images(self.inputs.plan, self.own)
            self._write(boot, now, attrs.evolve(self.cluster.record, phase="failed"))
            # RAM of the same kind as that of the others.
            backing = self.cluster.record.memory
            templates = (
                {} if backing == "anonymous" else get_templates(self.inputs, self.new, self.clock)
            )
            started = power_on(self.new, self.cluster.namespace, backing, templates, self.clock)
            nodes = sorted((*before[2].nodes, *started), key=lambda node: node.name)
            record = attrs.evolve(self.cluster.record, nodes=tuple(nodes))
            self._write(boot, now, record)
            launch.wait_booted(self.cluster, self.clock.progress)
            check_guests(self.cluster, self.inputs.plan.guest)
        except BaseException:
            end((node.process for node in started), grace=0)
            self._forget(self.new.nodes)
            self._write(*before)
            self._remove_files(self.added)
            raise

    def _forget(self, nodes: Iterable[BootedNode]) -> None:
        """Close the ports of this machine that lead to nodes."""
        for booted in nodes:
            self.cluster.namespace.forget(launch.management_address(booted.node))

    def _with(self, more: Sequence[str], less: Sequence[str]) -> tuple[BootedCluster, GuestFiles]:
        """Return what is written down of the cluster, with and without some nodes."""
        kept = {
            planned.node.name: planned
            for planned in self.boot.nodes
            if planned.node.name not in less
        }
        boots = {**kept, **{name: self.after[name] for name in more}}
        states = {name: files for name, files in self.now.nodes.items() if name not in less}
        states |= {
            planned.node.name: node_files(self.inputs, planned, self.own[planned.node.name])
            for planned in self.inputs.plan.nodes
            if planned.node.name in more
        }
        return (
            attrs.evolve(self.boot, nodes=tuple(boots[name] for name in sorted(boots))),
            attrs.evolve(self.now, key="", nodes=states),
        )

    def _record_without(self, names: Sequence[str]) -> Record:
        nodes = tuple(node for node in self.cluster.record.nodes if node.name not in names)
        return attrs.evolve(self.cluster.record, phase="failed", nodes=nodes)

    def _check_room(self) -> None:
        kind = self.cluster.record.memory
        if kind == "shared" and not room_for_memory(self.new):
            raise HostError(
                "not enough space for the memory of more VMs",
                where=str(memory_dir(self.cluster.name).parent),
                hint="shut down other clusters, or boot this one with less: --memory worker=MIB",
            )
        ram_directory(self.cluster.name)

    def _write(self, boot: BootedCluster, now: GuestFiles, record: Record) -> None:
        write_guest_files(now, self.state)
        write_boot(boot, self.state)
        write_record(record)
        self.boot, self.now = boot, now
        self.cluster = Cluster(record, self.inputs.plan)

    def _remove_files(self, names: Sequence[str]) -> None:
        for name in names:
            console = self.state / CONSOLES / f"{name}.log"
            image = launch.image_path(self.cluster.name, name)
            runtime = runtime_dir(self.cluster.name).glob(f"{name}.*")
            ram = ram_path(self.cluster.name, name)
            for path in (image, ram, console, qemu_log(console), *runtime):
                path.unlink(missing_ok=True)
