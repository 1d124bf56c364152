"""From a plan to a running cluster: artifacts, layers, machines, checks.

Any error, Ctrl-C and a kill leave nothing behind: processes carry the cluster's mark, and what
they leave is swept by this command itself, or by the next `up` or `down`. Only a cluster whose
VMs run but whose checks fail is kept, so that its user can look into it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import attrs

from xk8s.cluster.change.apply import put
from xk8s.cluster.change.image_overrides import over_images
from xk8s.cluster.change.nearest_snapshot import nearest_snapshot
from xk8s.cluster.checks.guest_needs import check_guests
from xk8s.cluster.checks.run import check
from xk8s.cluster.disk.prune import bound_snapshots
from xk8s.cluster.down import sweep
from xk8s.cluster.handle import Cluster, open_cluster
from xk8s.cluster.inputs import Kit
from xk8s.cluster.prepare import Clock, make_kit
from xk8s.cluster.snapshots import store
from xk8s.cluster.snapshots.restore import restore
from xk8s.cluster.snapshots.save import copy_directory, save, unsavable
from xk8s.cluster.state import failed_start
from xk8s.cluster.state.booted import BOOT, Boot, boot_of, read_boot, write_boot
from xk8s.cluster.state.guest_files import NOW, now_of, read_now, write_now
from xk8s.cluster.state.record import (
    LOCAL,
    PLAN,
    REQUEST,
    Backing,
    Phase,
    Record,
    locked,
    read_record,
    write_inputs,
    write_record,
)
from xk8s.cluster.state.secrets import PKI, flat, secrets, write_host_files
from xk8s.cluster.vms import launch
from xk8s.cluster.vms.power_on import power_on
from xk8s.cluster.vms.ram import ram_directory, room_for_memory
from xk8s.cluster.vms.ram_template import Template, get_templates
from xk8s.errors import CheckFailed, StateError, Xk8sError
from xk8s.machine.qemu.accelerator import decide
from xk8s.pki import Keys
from xk8s.planning.plan import Plan
from xk8s.progress import Progress
from xk8s.util.paths import make_private, runtime_dir, runtime_root, state_dir, write_private
from xk8s.util.processes import leftovers


def up(plan: Plan, progress: Progress, *, checks: bool = True, cold: bool = False) -> Cluster:
    """Start the cluster of a plan and run its checks; or restore it, when a snapshot of it as
    it was Ready is there and fits, or of one that can be changed to it without a boot (``cold``
    boots all the same).

    Raises `StateError` when one of that name runs; `CheckFailed` when a check fails (the
    cluster stays, phase "failed"); any other error after everything was swept away.
    """
    with locked(plan.name), ExitStack() as held:
        _check_free(plan)
        sweep(plan.name)
        failed_start.forget(plan.name)
        clock = Clock(progress)
        try:
            kit = make_kit(plan, clock, held)
            restorable = plan.cluster.snapshot and not cold
            cluster = _restored(kit, clock, checks=checks) if restorable else None
            if cluster is None and restorable:
                cluster = _changed(kit, clock, checks=checks)
            if cluster is None:
                cluster = _boot(kit, clock)
                if checks:
                    with clock.stage("checks"):
                        check(cluster, progress)
                    cluster = _saved(cluster, kit, clock)
        except CheckFailed:
            _finish(plan.name, clock, "failed")
            raise
        except BaseException as error:
            if failed_start.keep(plan.name, error) and isinstance(error, Xk8sError):
                more = "`xk8s report` makes an archive of what its VMs said"
                error.hint = "; ".join(filter(None, (error.hint, more)))
            sweep(plan.name)
            raise
        return Cluster(_finish(plan.name, clock, "running"), plan)


def snapshot(name: str, label: str, progress: Progress) -> float:
    """Save a running cluster under a label; for how many seconds it stood still."""
    with locked(name):
        cluster = open_cluster(name)
        cluster.check_alive()
        state = cluster.state_dir
        cluster, pause = save(cluster, read_boot(state), read_now(state), label, progress)
        write_host_files(cluster)
        return pause


def back_to(name: str, label: str, progress: Progress) -> Cluster:
    """Restore a snapshot of a cluster, in place of what runs under its name.

    Raises `StateError` when there is none or it does not fit; what runs goes on then.
    """
    with locked(name):
        value = store.find(name, label)
        boot = read_boot(value.directory)
        clock = Clock(progress)
        if why := _unfit(value, boot) or _damage(value, clock):
            raise StateError(
                f"snapshot {label!r} cannot be restored: {why}", where=str(value.directory)
            )
        sweep(name)
        try:
            with restore(boot, value, _as_saved(value, boot), clock) as cluster:
                write_host_files(cluster)
                with clock.stage("checks"):
                    check(cluster, progress, restored=True)
        except BaseException:
            sweep(name)
            raise
        return cluster.as_of(_finish(name, clock, "running"))


def _check_free(plan: Plan) -> None:
    record = read_record(plan.name)
    if record is not None and record.phase != "starting" and leftovers(runtime_dir(plan.name)):
        raise StateError(
            f"cluster {plan.name!r} is up already",
            where=str(state_dir(plan.name)),
            hint="xk8s down, or use another --name",
        )


def _unfit(value: store.Saved, boot: Boot) -> str | None:
    """Why a snapshot cannot be restored, whatever plan is meant; None when it can."""
    accel = decide(boot.accel.name)
    return store.problem(value, accel=accel) or boot.missing()


def _damage(value: store.Saved, clock: Clock) -> str | None:
    """What is damaged of a snapshot that was not read since this machine was started, or None."""
    if store.verified(value):
        return None
    with clock.stage("verify"):
        return store.verify(value)


def _as_saved(value: store.Saved, boot: Boot) -> Record:
    """The state of a cluster that is to be what a snapshot is."""
    state = _directories(value.cluster)
    for name in (REQUEST, PLAN, BOOT, NOW):
        write_private(state / name, (value.directory / name).read_bytes())
    copy_directory(value.directory / LOCAL, state / LOCAL)
    record = Record(
        name=value.cluster,
        phase="starting",
        overlays=value.overlays,
        digest=value.digest,
        accel=boot.accel.name,
    )
    write_record(record)
    return record


def _tell_on_top(kit: Kit, progress: Progress) -> None:
    """Notes about what local directories replace; `PlanError` when they would hide too much."""
    plan = kit.plan
    own = {one.node.name: launch.image_path(plan.name, one.node.name) for one in plan.nodes}
    layers = {name: layer.path for name, layer in kit.layers.items()}
    for one in over_images(plan, layers, own):
        for line in one.lines():
            progress.note(f"{one.directory} {line}")


def _begin(kit: Kit) -> Record:
    plan = kit.plan
    _directories(plan.name)
    write_inputs(plan)
    record = Record(
        name=plan.name,
        phase="starting",
        overlays=plan.ctx.overlays,
        digest=plan.digest,
        accel=kit.accel.name,
    )
    write_record(record)
    return record


def _directories(name: str) -> Path:
    """Make them; the one of the cluster's state."""
    make_private(runtime_root())
    make_private(runtime_dir(name))
    return make_private(state_dir(name))


def _boot(kit: Kit, clock: Clock) -> Cluster:
    plan = kit.plan
    with clock.stage("machines"):
        record = _begin(kit)
        boot = boot_of(kit)
        write_boot(boot, state_dir(plan.name))
        keys = Keys(state_dir(plan.name) / PKI)
        files = {node.node.name: secrets(plan, node.node, keys) for node in plan.nodes}
        own = {name: flat(given) for name, given in files.items()}
        launch.write_images(plan, own)
        write_now(now_of(kit, store.key_of(kit), own), state_dir(plan.name))
        _tell_on_top(kit, clock)
        templates = get_templates(kit, boot, clock)
        backing = _backing(kit, boot, templates)
        started = power_on(boot, launch.networks(boot), backing, templates, clock)
        record = attrs.evolve(record, nodes=started, memory=backing)
        write_record(record)
        cluster = Cluster(record, plan)
        write_host_files(cluster)
    with clock.stage("boot"):
        launch.wait_booted(cluster, clock.progress)
        check_guests(cluster, plan.guest)
    return cluster


def _backing(kit: Kit, boot: Boot, templates: Mapping[str, Template]) -> Backing:
    """The kind of RAM that suits: to be saved all of it has to be in a file of its own, and else
    what VMs have of a template is there once.
    """
    ram_directory(boot.cluster)
    if templates and not kit.plan.cluster.snapshot:
        return "private"
    if room_for_memory(boot):
        return "shared"
    return "private" if templates else "anonymous"


def _restored(kit: Kit, clock: Clock, *, checks: bool) -> Cluster | None:
    """The cluster from its snapshot, or None (with a note why) when it has to be booted."""
    key = store.key_of(kit)
    value = store.read(kit.plan.name, store.auto_label(key))
    if value is None:
        return None
    why = store.problem(value, key)
    if why is None:
        try:
            why = read_boot(value.directory).missing()
        except StateError as error:
            why = str(error)
    why = why or _damage(value, clock)
    if why is None:
        try:
            return _restore(kit, value, clock, checks=checks)
        except Xk8sError as error:
            why = f"{error} ({error.where})"
            sweep(kit.plan.name)
    clock.note(f"the snapshot of this cluster is dropped: {why}")
    store.remove(value)
    return None


def _changed(kit: Kit, clock: Clock, *, checks: bool) -> Cluster | None:
    """The cluster from a snapshot of another plan with what is different put into it, or None (with
    a note why) when it has to be booted.
    """
    found = nearest_snapshot(kit)
    if found is None:
        return None
    value = found.saved
    what = ", ".join(found.differing) or "files of nodes"
    if why := _damage(value, clock):
        clock.note(f"{value.label} is dropped: {why}")
        store.remove(value)
        return None
    clock.note(f"restoring {value.label}, to be changed in: {what}")
    try:
        with restore(found.boot, value, _as_saved(value, found.boot), clock) as cluster:
            pass  # what is changed must find the clocks right
        cluster = put(cluster, kit, clock, checks="changed" if checks else "none").cluster
        if checks:
            with clock.stage("checks after restore"):
                check(cluster, clock, restored=True)
            cluster = _saved(cluster, kit, clock)
    except Xk8sError as error:
        clock.note(f"booting: {value.label} could not be changed: {error} ({error.where})")
        sweep(kit.plan.name)
        return None
    return cluster


def _restore(kit: Kit, value: store.Saved, clock: Clock, *, checks: bool) -> Cluster:
    record = _begin(kit)
    boot = read_boot(value.directory)
    for name in (BOOT, NOW):
        write_private(state_dir(kit.plan.name) / name, (value.directory / name).read_bytes())
    with restore(boot, value, record, clock) as restored:
        cluster = Cluster(restored.record, kit.plan)
        _tell_on_top(kit, clock)
        write_host_files(cluster)
        if checks:
            with clock.stage("checks"):
                check(cluster, clock.progress, restored=True)
    return cluster


def _saved(cluster: Cluster, kit: Kit, clock: Clock) -> Cluster:
    """The cluster with a snapshot for the next `up`; a failure to save is only a note."""
    if not kit.plan.cluster.snapshot:
        return cluster
    if why := unsavable(cluster.record):
        clock.note(f"no snapshot for the next start: {why}")
        return cluster
    try:
        state = cluster.state_dir
        now = read_now(state)
        cluster, pause = save(cluster, read_boot(state), now, store.auto_label(now.key), clock)
        store.prune(cluster.name)
        bound = kit.plan.cluster.snapshot_size << 20
        for one in bound_snapshots(cluster.name, store.auto_label(now.key), bound):
            clock.note(f"removed the automatic snapshot {one}: xk8s cache")
        write_host_files(cluster)  # in case a port had to change
        clock.note(f"saved for the next start; the cluster stood still for {pause:.2f} s")
    except Xk8sError as error:
        clock.note(f"no snapshot for the next start: {error}")
        record = read_record(cluster.name)
        cluster = Cluster(record, kit.plan) if record else cluster
    if cluster.record.memory == "private":
        # Other processes run its VMs than before, and under TCG those have to translate all code
        # again: on a slow machine the API server's first answer took 6 s, and kubectl waits 10.
        with clock.stage("checks after save"):
            check(cluster, clock, restored=True)
    return cluster


def _finish(name: str, clock: Clock, phase: Phase) -> Record:
    record = read_record(name)
    assert record is not None
    record = attrs.evolve(record, phase=phase, seconds=clock.seconds)
    write_record(record)
    return record


__all__ = ["back_to", "snapshot", "up"]
