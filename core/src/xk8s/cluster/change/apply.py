"""Apply changes to a running cluster: files, then what overlays do themselves, then units.

The VMs stay those that were booted: what they get is kept in memory over their disks. ``now.json``
says what they have. Before anything is changed, it records what is about to change, so that the
next apply, whatever it is for, repairs one that failed or was killed.
"""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Literal

import attrs

from xk8s.build.layers.diff import entries
from xk8s.build.layers.node_layer import make_node_image
from xk8s.cluster.absent import absence_text
from xk8s.cluster.change.applied import Applied, NodeChange
from xk8s.cluster.change.compare import Levels, NodeWork, compare
from xk8s.cluster.change.image_overrides import over_images
from xk8s.cluster.change.needs_reboot import refuse, refuse_plan
from xk8s.cluster.change.reboots import boot_ids, rebooted
from xk8s.cluster.change.rotate_keys import in_order
from xk8s.cluster.change.transfer import send
from xk8s.cluster.change.units import carry_out, short
from xk8s.cluster.checks.guest_needs import check_guests
from xk8s.cluster.checks.run import check
from xk8s.cluster.handle import Cluster, open_started
from xk8s.cluster.inputs import ClusterInputs
from xk8s.cluster.prepare import Clock, make_inputs
from xk8s.cluster.resume import check_running
from xk8s.cluster.snapshots import store
from xk8s.cluster.state.booted import BootedCluster, read_boot, way_out, write_boot
from xk8s.cluster.state.guest_files import (
    GuestFiles,
    overlay_digests,
    read_guest_files,
    write_guest_files,
)
from xk8s.cluster.state.operation_log import operation_log
from xk8s.cluster.state.passed_checks import (
    checks_of,
    forget_passed,
    remember_passed,
    unchecked,
)
from xk8s.cluster.state.record import locked, write_record
from xk8s.cluster.state.request_file import read_request, write_inputs
from xk8s.cluster.state.secrets import PKI, flat, secrets, write_host_files
from xk8s.cluster.state.snapshot_places import remember_snapshots
from xk8s.cluster.vms import launch
from xk8s.cluster.vms.hotplug import clear
from xk8s.errors import CheckFailed
from xk8s.overlay import Check, File
from xk8s.pki import Keys
from xk8s.planning.local_directory import absolute, is_directory
from xk8s.planning.make_plan import make_plan
from xk8s.planning.plan import Plan
from xk8s.progress import Progress
from xk8s.util.paths import cache_dir

Checks = Literal["changed", "all", "none"]


def apply(
    name: str,
    progress: Progress,
    *,
    overlays: Sequence[str] = (),
    sets: Sequence[str] = (),
    checks: Checks = "changed",
    dry_run: bool = False,
) -> Applied:
    """Make the plan of a running cluster again, with more ``overlays`` and other settings, and
    apply the differences to the guests, except those that are absent: `xk8s node start` or the next
    apply brings these up to date. Local directories are read again if they still exist. With
    ``dry_run`` nothing is changed.

    Raises `PlanError` if part of it takes a reboot; `StateError` if there is no such cluster;
    `MachineError` if a guest fails to do it (the next apply repairs that); `CheckFailed`.
    """
    with locked(name), ExitStack() as held:
        cluster = open_started(name)
        held.enter_context(operation_log(name, "apply"))
        clock = Clock(progress)
        with clock.stage("plan"):
            plan = plan_again(name, overlays, tuple(sets))
            refuse_plan(read_boot(cluster.state_dir), plan)
        inputs = make_inputs(plan, clock, held)
        if dry_run:
            return _Apply(cluster, inputs, clock).look(overlays, checks)
        return put(cluster, inputs, clock, named=overlays, checks=checks)


def put(
    cluster: Cluster,
    inputs: ClusterInputs,
    clock: Clock,
    *,
    named: Sequence[str] = (),
    checks: Checks,
) -> Applied:
    """Change a running cluster to a plan that is made already; the caller holds its lock. The
    checks of ``named`` overlays are run though nothing of them changed.
    """
    work = _Apply(cluster, inputs, clock)
    if cluster.record.phase == "failed":
        forget_passed(work.state)
    changed = work.run()
    asked, wanted = work.due(named, checks)
    try:
        if wanted:
            with clock.stage("checks"):
                check(work.present, clock, wanted=wanted)
            if not work.absent:
                remember_passed(inputs.plan, work.state, asked)
    except CheckFailed:
        write_record(attrs.evolve(work.cluster.record, phase="failed"))
        raise
    check_running(work.cluster.record, but=work.absent)
    record = attrs.evolve(work.cluster.record, phase="running")
    write_record(record)
    return Applied(
        cluster=Cluster(record, inputs.plan),
        overlays=work.overlays,
        nodes=changed,
        checks=tuple(check.name for check in wanted),
        seconds=clock.seconds,
        skipped=tuple(work.absent),
        rebooted=work.rebooted,
    )


def checks_due(plan: Plan, state: Path, named: Sequence[str], checks: Checks) -> tuple[str, ...]:
    """Overlays whose checks have to run, in order: those that are ``named``, and those whose checks
    did not pass yet with what they depend on now.
    """
    if checks == "none":
        return ()
    due = unchecked(plan, state)
    return tuple(
        name for name in checks_of(plan) if checks == "all" or name in due or name in named
    )


def plan_again(name: str, overlays: Sequence[str], sets: tuple[str, ...]) -> Plan:
    """Return the plan of a running cluster, made again with more overlays and other settings."""
    kept = read_request(name)
    known = {*kept.overlays}
    given = [str(absolute(overlay)) if is_directory(overlay) else overlay for overlay in overlays]
    new = [overlay for overlay in dict.fromkeys(given) if overlay not in known]
    # Of a directory that is gone by now, what was taken of it counts; unless it was asked for.
    again = {
        overlay
        for overlay in known
        if is_directory(overlay) and (overlay in given or Path(overlay).is_dir())
    }
    return make_plan(
        attrs.evolve(
            kept,
            overlays=(*kept.overlays, *new),
            sets=sets,
            again=frozenset({*again, *(overlay for overlay in new if is_directory(overlay))}),
        ),
        online=True,
    )


class _Apply:
    def __init__(self, cluster: Cluster, inputs: ClusterInputs, clock: Clock) -> None:
        self.inputs, self.plan, self.clock = inputs, inputs.plan, clock
        self.cluster = Cluster(cluster.record, inputs.plan)
        self.state = cluster.state_dir
        self.boot: BootedCluster = read_boot(self.state)
        self.now: GuestFiles = read_guest_files(self.state)
        self.absent = self.cluster.absent
        for name, absence in self.absent.items():
            clock.note(f"skipped: {absence_text(cluster.name, name, absence)}")
        self.present = self.cluster.without(self.absent)
        self.boots = boot_ids(self.cluster)
        self.rebooted, self.now = rebooted(self.boot, self.now, self.boots)
        for name in self.rebooted:
            clock.note(f"{name} has rebooted: everything is applied to it again")
        refuse(self.boot, self.now, inputs)
        self.said = overlay_digests(self.plan)
        self.overlays = tuple(
            name for name, digest in self.said.items() if self.now.overlays.get(name) != digest
        )

    def look(self, named: Sequence[str], checks: Checks) -> Applied:
        """Return what would be done."""
        with _scratch(self.state, "dry-run") as place, ExitStack() as stack:
            # A new overlay gets its keys when it is applied.
            if (self.state / PKI).is_dir():
                shutil.copytree(self.state / PKI, place / PKI)
            nodes = self._compared(Keys(place / PKI), stack)
        if self.cluster.record.phase == "failed" and checks == "changed":
            checks = "all"  # `put` forgets what has passed
        _, wanted = self.due(named, checks)
        return Applied(
            cluster=self.cluster,
            overlays=self.overlays,
            nodes=tuple(_told(node) for node in nodes),
            checks=tuple(check.name for check in wanted),
            seconds=self.clock.seconds,
            skipped=tuple(self.absent),
            rebooted=self.rebooted,
            dry_run=True,
        )

    def due(
        self, named: Sequence[str], checks: Checks
    ) -> tuple[tuple[str, ...], tuple[Check, ...]]:
        """Return the overlays whose checks have to run, and these checks on the nodes that run."""
        by_overlay = checks_of(self.present.plan)
        asked = checks_due(self.plan, self.state, named, checks)
        return asked, tuple(chain.from_iterable(by_overlay.get(name, ()) for name in asked))

    def run(self) -> tuple[NodeChange, ...]:
        """Apply everything except the checks."""
        remember_snapshots(cache_dir())
        with ExitStack() as stack:
            nodes = self._compared(Keys(self.state / PKI), stack)
            hooked = self._hooked(nodes)
            differs = self._routes_differ() or self._outside_differs()
            if any(not node.idle for node in nodes) or hooked or differs:
                self._change(nodes, hooked)
        key = store.key_of(self.inputs)
        # The request first: what the guests are said to have is never that of another plan.
        write_inputs(self.plan)
        self._write(
            attrs.evolve(
                self.now,
                # What an absent one has, is still what it had: the guests match no plan.
                key="" if self.absent else key,
                overlays=self.said,
                nodes=self.now.nodes
                | {
                    node.name: attrs.evolve(node.after, boot=self.boots.get(node.name, ""))
                    for node in nodes
                },
            )
        )
        self.cluster.record = attrs.evolve(
            self.cluster.record, overlays=self.plan.ctx.overlays, digest=self.plan.digest
        )
        write_record(self.cluster.record)
        write_host_files(self.cluster)
        fresh = {name: self.plan.guest[name] for name in self.overlays if name in self.plan.guest}
        check_guests(self.cluster, fresh, but=self.absent)
        return tuple(_told(node) for node in nodes)

    # --- parts --------------------------------------------------------------------------

    def _compared(self, keys: Keys, stack: ExitStack) -> list[NodeWork]:
        given = {
            planned.node.name: secrets(self.plan, planned.node, keys) for planned in self.plan.nodes
        }
        self._check_directories(given)
        with self.clock.stage("compare"):
            levels = Levels(stack)
            return [
                compare(self.inputs, planned, self.now, given[planned.node.name], levels)
                for planned in self.plan.nodes
                if planned.node.name not in self.absent
            ]

    def _hooked(self, nodes: Sequence[NodeWork]) -> dict[str, tuple[str, ...]]:
        """Overlay -> changed layers that it puts into guests by itself."""
        found: dict[str, tuple[str, ...]] = {}
        for planned in self.plan.layers:
            name = planned.layer.name
            if planned.layer.applied_by_hook and any(
                dict(node.before.stack).get(name) != dict(node.after.stack).get(name)
                for node in nodes
            ):
                found[planned.overlay] = (*found.get(planned.overlay, ()), name)
        return found

    def _change(self, nodes: Sequence[NodeWork], hooked: Mapping[str, tuple[str, ...]]) -> None:
        self.cluster.record = attrs.evolve(self.cluster.record, phase="failed")
        write_record(self.cluster.record)
        self._intend(nodes)
        with self.clock.stage("files"):
            self._routes()
            self._outside()
            busy = [node for node in nodes if node.change.paths]
            self._each(busy, self._files)
        if hooked:
            with self.clock.stage("overlays"):
                for overlay, layers in hooked.items():
                    self.plan.registry.hooks.apply(overlay, self.present, layers, self.clock)
        with self.clock.stage("units"):
            for group in in_order(self.plan.nodes):
                names = {work.node.name for work in group}
                self._each([node for node in nodes if node.name in names], self._units)

    def _intend(self, nodes: Sequence[NodeWork]) -> None:
        """Write down what is about to change."""
        intended = {
            node.name: attrs.evolve(
                node.before,
                unsure=tuple(dict.fromkeys((*node.before.unsure, *node.change.marks))),
                units=tuple(dict.fromkeys((*node.before.units, *node.todo.restart))),
            )
            for node in nodes
        }
        self._write(attrs.evolve(self.now, key="", nodes=self.now.nodes | intended))

    def _files(self, work: NodeWork) -> None:
        if work.before.unsure:
            clear(self.cluster, work.name)
        count = len(work.change.paths)
        self.clock.item(work.name, f"{count} files, {work.change.size >> 10} KiB")
        found = entries(work.new, (*work.change.directories, *work.change.put), work.own)
        send(self.cluster, work.name, work.change, found, work=self.state)
        self.clock.finish(work.name)

    def _units(self, work: NodeWork) -> None:
        if work.todo.restart:
            self.clock.item(work.name, f"restarting {short(work.todo.restart)}")
        work.unused = carry_out(self.cluster, work.name, work.todo)
        if work.unused:
            self.clock.note(
                f"{work.name}: {short(work.unused)} not restarted: the node does not have it, "
                "or it does not run"
            )
        self.clock.finish(work.name)

    def _routes_differ(self) -> bool:
        return {*self.boot.routes} != {*self.plan.routes}

    def _routes(self) -> None:
        if not self._routes_differ():
            return
        namespace = self.cluster.namespace
        for prefix in self.plan.routes:
            launch.route(self.boot, namespace, prefix)
        for prefix in self.boot.routes:
            if prefix not in self.plan.routes:
                namespace.run(["ip", "route", "del", prefix])
        self.boot = attrs.evolve(self.boot, routes=self.plan.routes)
        write_boot(self.boot, self.state)

    def _outside_differs(self) -> bool:
        return self.boot != attrs.evolve(self.boot, **way_out(self.plan))

    def _outside(self) -> None:
        if not self._outside_differs():
            return
        self.boot = attrs.evolve(self.boot, **way_out(self.plan))
        launch.lead_outside(self.boot, self.cluster.namespace, again=True)
        write_boot(self.boot, self.state)

    def _check_directories(self, given: Mapping[str, Mapping[str, Sequence[File]]]) -> None:
        """`PlanError` when local directories would hide too much."""
        if not self.plan.directories:
            return
        layers = {name: layer.path for name, layer in self.inputs.layers.items()}
        with _scratch(self.state, "apply") as place:
            own = {}
            for planned in self.plan.nodes:
                own[planned.node.name] = place / f"{planned.node.name}.erofs"
                files = launch.own_files(planned, flat(given[planned.node.name]))
                make_node_image(files, own[planned.node.name])
            over_images(self.plan, layers, own)

    def _each(self, nodes: Sequence[NodeWork], work: Callable[[NodeWork], None]) -> None:
        if nodes:
            with ThreadPoolExecutor(max_workers=min(8, len(nodes))) as pool:
                list(pool.map(work, nodes))

    def _write(self, now: GuestFiles) -> None:
        self.now = now
        write_guest_files(now, self.state)


def _told(work: NodeWork) -> NodeChange:
    before, after = dict(work.before.stack), dict(work.after.stack)
    return NodeChange(
        node=work.name,
        layers=tuple(name for name in {**after, **before} if before.get(name) != after.get(name)),
        files=work.change.paths,
        size=work.change.size,
        restarted=tuple(
            unit for unit in (*work.todo.restart, *work.todo.renew) if unit not in work.unused
        ),
        stopped=work.todo.stop,
    )


@contextmanager
def _scratch(state: Path, name: str) -> Iterator[Path]:
    """Yield an empty directory; what a killed command left in it is gone."""
    place = state / name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=stat.S_IRWXU)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
