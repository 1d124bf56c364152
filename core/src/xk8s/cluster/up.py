"""Starting a cluster from a plan: artifacts, layers, machines, checks.

Any error, Ctrl-C and a kill leave nothing behind: processes carry the cluster's mark, and what
they leave is swept by this command itself, or by the next `up` or `down`. Only a cluster whose
VMs run but whose checks fail is kept, so that its user can look into it.
"""

from __future__ import annotations

from collections.abc import Set
from contextlib import ExitStack
from pathlib import Path

import attrs

from xk8s.cluster.absent import ended, refuse_absent
from xk8s.cluster.change.apply import put
from xk8s.cluster.change.image_overrides import over_images
from xk8s.cluster.change.nearest_snapshot import nearest_snapshot
from xk8s.cluster.change.reboots import remember_boots
from xk8s.cluster.checks.guest_needs import check_guests
from xk8s.cluster.checks.run import check, check_again
from xk8s.cluster.disk.prune import bound_snapshots
from xk8s.cluster.down import sweep
from xk8s.cluster.handle import Cluster, open_cluster
from xk8s.cluster.inputs import ClusterInputs
from xk8s.cluster.prepare import Clock, make_inputs
from xk8s.cluster.resume import check_free, check_running
from xk8s.cluster.snapshots import store
from xk8s.cluster.snapshots.images import damaged
from xk8s.cluster.snapshots.restore import restore, staged, take_staged
from xk8s.cluster.snapshots.save import KEPT_DIRECTORIES, save, unsavable
from xk8s.cluster.state import failed_start
from xk8s.cluster.state.booted import (
    BootedCluster,
    boot_of,
    read_boot,
    way_out,
    write_boot,
)
from xk8s.cluster.state.guest_files import (
    GUEST_FILES,
    guest_files_of,
    read_guest_files,
    write_guest_files,
)
from xk8s.cluster.state.node_paths import VOLUMES, image_path
from xk8s.cluster.state.operation_log import operation_log
from xk8s.cluster.state.passed_checks import (
    CHECKED,
    remember_passed,
    unchecked,
)
from xk8s.cluster.state.record import (
    Phase,
    Record,
    locked,
    read_record,
    write_record,
)
from xk8s.cluster.state.request_file import write_inputs
from xk8s.cluster.state.secrets import PKI, flat, secrets, write_host_files
from xk8s.cluster.vms import launch
from xk8s.cluster.vms.memory_room import choose_backing
from xk8s.cluster.vms.power_on import power_on
from xk8s.cluster.vms.ram_template import get_templates
from xk8s.cluster.vms.volumes import make_volumes
from xk8s.errors import CheckFailed, HostError, StateError, Xk8sError
from xk8s.machine.qemu.accelerator import decide
from xk8s.pki import Keys
from xk8s.planning.plan import Plan
from xk8s.progress import Progress
from xk8s.util.disk_full import DiskError, disk_guard
from xk8s.util.log import get_logger
from xk8s.util.paths import make_private, runtime_dir, runtime_root, state_dir

log = get_logger(__name__)


def up(plan: Plan, progress: Progress, *, checks: bool = True, cold: bool = False) -> Cluster:
    """Start the cluster of a plan and run its checks; or restore it, if there is a snapshot of the
    Ready cluster that fits, or one that can be changed to it without a reboot (``cold`` always
    boots). Checks that depend on something that has changed since they passed run again.

    Raises `StateError` when one of that name runs; `CheckFailed` when a check fails (the
    cluster stays, phase "failed"); any other error after everything was swept away.
    """
    with locked(plan.name), ExitStack() as held:
        check_free(plan.name)
        sweep(plan.name)
        failed_start.forget(plan.name)
        clock = Clock(progress)
        try:
            with operation_log(plan.name, "up"):
                inputs = make_inputs(plan, clock, held)
                cluster = _up(inputs, clock, checks=checks, cold=cold)
                check_running(cluster.record)
        except CheckFailed:
            if record := read_record(plan.name):
                _finish(Cluster(record, plan), clock, "failed")
            raise
        except BaseException as error:
            if failed_start.keep(plan.name, error) and isinstance(error, Xk8sError):
                more = "`xk8s report` creates an archive of its VMs' output"
                error.hint = "; ".join(filter(None, (error.hint, more)))
            sweep(plan.name)
            raise
        return _finish(cluster, clock, "running")


def _up(inputs: ClusterInputs, clock: Clock, *, checks: bool, cold: bool) -> Cluster:
    """Return the cluster restored, changed or booted."""
    cluster = None
    if inputs.plan.cluster.snapshot and not cold:
        cluster = _restored(inputs, clock, checks=checks)
        cluster = cluster or _changed(inputs, clock, checks=checks)
    if cluster is None:
        cluster = _boot(inputs, clock)
        if checks:
            with clock.stage("checks"):
                check(cluster, clock.progress)
            remember_passed(inputs.plan, cluster.state_dir)
            cluster = _saved(cluster, inputs, clock)
    return cluster


def snapshot(name: str, label: str, progress: Progress) -> float:
    """Save a running cluster under a label; return for how many seconds it was paused."""
    with locked(name):
        cluster = open_cluster(name)
        if not cluster.record.alive:
            raise ended(name)
        refuse_absent(name, cluster.absent, "saved")
        state = cluster.state_dir
        cluster, pause = save(cluster, read_boot(state), read_guest_files(state), label, progress)
        check_running(cluster.record)
        write_host_files(cluster)
        return pause


def back_to(name: str, label: str, progress: Progress) -> Cluster:
    """Restore a snapshot of a cluster, in place of what runs under its name.

    Raises `StateError` if there is none or it does not fit; whatever is running then continues.
    """
    with locked(name):
        value = store.find(name, label)
        boot = read_boot(value.directory)
        clock = Clock(progress)
        if why := _unfit(value, boot) or _damage(value, boot, clock):
            raise StateError(
                f"snapshot {label!r} cannot be restored: {why}", where=str(value.directory)
            )
        with staged(value) as files:
            sweep(name)
            try:
                record = _as_saved(value, boot, files)
                with disk_guard(state_dir(name)), restore(boot, value, record, clock) as cluster:
                    write_host_files(cluster)
                    with clock.stage("checks"):
                        check(cluster, progress, restored=True)
                    check_running(cluster.record)
            except BaseException:
                sweep(name)
                raise
        return _finish(cluster, clock, "running")


def _unfit(value: store.Snapshot, boot: BootedCluster) -> str | None:
    """Why a snapshot cannot be restored, whatever plan is meant; None when it can."""
    accel = decide(boot.accel.name)
    return store.problem(value, accel=accel) or boot.missing()


def _damage(value: store.Snapshot, boot: BootedCluster, clock: Clock) -> str | None:
    """Return what is damaged of a snapshot that was not read since this machine was started, or of
    the images that its VMs have, or None.
    """
    if not store.verified(value):
        with clock.stage("verify"):
            if why := store.verify(value):
                return why
    return damaged(boot)


def _as_saved(value: store.Snapshot, boot: BootedCluster, files: Path) -> Record:
    """Return the state of a cluster that should become what a snapshot is, ``files`` of it."""
    _directories(value.cluster)
    take_staged(files, value.cluster)
    record = Record(
        name=value.cluster,
        phase="starting",
        overlays=value.overlays,
        digest=value.digest,
        accel=boot.accel.name,
    )
    write_record(record)
    return record


def _tell_on_top(inputs: ClusterInputs, progress: Progress) -> None:
    """Notes about what local directories replace; `PlanError` when they would hide too much."""
    plan = inputs.plan
    own = {planned.node.name: image_path(plan.name, planned.node.name) for planned in plan.nodes}
    layers = {name: layer.path for name, layer in inputs.layers.items()}
    for override in over_images(plan, layers, own):
        for line in override.lines():
            progress.note(f"{override.directory} {line}")


def _begin(inputs: ClusterInputs) -> Record:
    plan = inputs.plan
    _directories(plan.name)
    write_inputs(plan)
    record = Record(
        name=plan.name,
        phase="starting",
        overlays=plan.ctx.overlays,
        digest=plan.digest,
        accel=inputs.accel.name,
    )
    write_record(record)
    return record


def _directories(name: str) -> Path:
    """Make them; the one of the cluster's state."""
    make_private(runtime_root())
    make_private(runtime_dir(name))
    return make_private(state_dir(name))


def _boot(inputs: ClusterInputs, clock: Clock) -> Cluster:
    plan = inputs.plan
    with clock.stage("machines"):
        record = _begin(inputs)
        boot = boot_of(inputs)
        write_boot(boot, state_dir(plan.name))
        keys = Keys(state_dir(plan.name) / PKI)
        files = {node.node.name: secrets(plan, node.node, keys) for node in plan.nodes}
        own = {name: flat(node_files) for name, node_files in files.items()}
        launch.write_images(plan, own)
        make_volumes(boot)
        write_guest_files(guest_files_of(inputs, store.key_of(inputs), own), state_dir(plan.name))
        _tell_on_top(inputs, clock)
        templates = get_templates(inputs, boot, clock)
        backing = choose_backing(boot, clock, saved=plan.cluster.snapshot, copied=bool(templates))
        started = power_on(boot, launch.networks(boot), backing, templates, clock)
        record = attrs.evolve(record, nodes=started, memory=backing)
        write_record(record)
        cluster = Cluster(record, plan)
        write_host_files(cluster)
    with clock.stage("boot"):
        names = [node.name for node in started]
        launch.wait_booted(cluster, names, clock.progress)
        remember_boots(cluster, names)
        check_guests(cluster, plan.guest)
    return cluster


def _restored(inputs: ClusterInputs, clock: Clock, *, checks: bool) -> Cluster | None:
    """Return the cluster from its snapshot, or None (with a note why) when it has to be booted.

    `CheckFailed` when checks do not pass with what they depend on now: nothing is wrong with the
    snapshot then, and a boot would not help.
    """
    key = store.key_of(inputs)
    label = store.auto_label(key)
    value = store.read(inputs.plan.name, label)
    if value is None:
        reason = "none was saved for this plan with these images, this QEMU and this CPU"
        log.info("snapshot_missing", label=label, reason=reason)
        return None
    why = store.problem(value, key)
    if why is None:
        try:
            boot = read_boot(value.directory)
            why = boot.missing() or _damage(value, boot, clock)
        except StateError as error:
            why = str(error)
    if why is None:
        log.info("snapshot_fits", label=label)
        due = unchecked(inputs.plan, value.directory) if checks else frozenset()
        try:
            cluster = _restore(inputs, value, clock, without=due, checks=checks)
        except CheckFailed as error:
            clock.note(f"booting: {value.label} was restored and does not work: {error}")
            sweep(inputs.plan.name, keep_log=True)
            return None
        except DiskError:
            raise  # nothing is wrong with the snapshot
        except Xk8sError as error:
            why = f"{error} ({error.where})"
            sweep(inputs.plan.name, keep_log=True)
        else:
            check_again(cluster, due, clock, value.directory)
            return cluster
    log.info("snapshot_dropped", label=label, reason=why)
    clock.note(f"the snapshot of this cluster is dropped: {why}")
    store.remove(value)
    return None


def _changed(inputs: ClusterInputs, clock: Clock, *, checks: bool) -> Cluster | None:
    """Return the cluster from a snapshot of another plan with what is different put into it, or
    None (with a note why) when it has to be booted.
    """
    found = nearest_snapshot(inputs)
    if found is None:
        return None
    value = found.saved
    log.info("snapshot_nearest", label=value.label, differing=found.differing,
             distance=found.distance)  # fmt: skip
    what = ", ".join(found.differing) or "files of nodes"
    if why := _damage(value, found.boot, clock):
        log.info("snapshot_dropped", label=value.label, reason=why)
        clock.note(f"{value.label} is dropped: {why}")
        store.remove(value)
        return None
    clock.note(f"restoring {value.label}, changing: {what}")
    try:
        with (
            staged(value) as files,
            disk_guard(state_dir(value.cluster)),
            restore(found.boot, value, _as_saved(value, found.boot, files), clock) as cluster,
        ):
            pass  # what is changed must find the clocks right
        cluster = put(cluster, inputs, clock, checks="changed" if checks else "none").cluster
        if checks:
            with clock.stage("checks after restore"):
                check(cluster, clock, restored=True)
            cluster = _saved(cluster, inputs, clock)
    except DiskError:
        raise  # a boot would need more of it
    except Xk8sError as error:
        log.info("snapshot_unused", label=value.label, reason=f"{error} ({error.where})")
        clock.note(f"booting: {value.label} could not be changed: {error} ({error.where})")
        sweep(inputs.plan.name, keep_log=True)
        return None
    return cluster


def _restore(
    inputs: ClusterInputs,
    value: store.Snapshot,
    clock: Clock,
    *,
    without: Set[str],
    checks: bool,
) -> Cluster:
    """Restore the cluster from its snapshot and run the checks of every restore, except those of
    the overlays ``without``.
    """
    record = _begin(inputs)
    boot = read_boot(value.directory)
    with disk_guard(state_dir(record.name)), staged(value) as files:
        take_staged(files, record.name, (*KEPT_DIRECTORIES, VOLUMES, GUEST_FILES, CHECKED))
        boot = attrs.evolve(boot, **way_out(inputs.plan))
        write_boot(boot, state_dir(record.name))
        with restore(boot, value, record, clock) as restored:
            cluster = Cluster(restored.record, inputs.plan)
            _tell_on_top(inputs, clock)
            write_host_files(cluster)
            if checks:
                with clock.stage("checks"):
                    check(cluster, clock.progress, restored=True, without=without)
    return cluster


def _saved(cluster: Cluster, inputs: ClusterInputs, clock: Clock) -> Cluster:
    """Return the cluster with a snapshot for the next `up`; a failure to save is only a note."""
    if not inputs.plan.cluster.snapshot:
        return cluster
    if why := unsavable(cluster.record):
        clock.note(f"no snapshot for the next start: {why}")
        return cluster
    try:
        state = cluster.state_dir
        now = read_guest_files(state)
        label = store.auto_label(now.key)
        cluster, pause = save(cluster, read_boot(state), now, label, clock)
        bound = inputs.plan.cluster.snapshot_size << 20
        for piece in bound_snapshots(cluster.name, label, bound):
            clock.note(f"removed the automatic snapshot {piece.name}: xk8s cache")
        write_host_files(cluster)  # in case a port had to change
        clock.note(f"saved for the next start; the cluster was paused for {pause:.2f} s")
    except (Xk8sError, OSError) as error:  # whatever it is, the cluster is Ready and stays
        where = f" ({error.where})" if isinstance(error, Xk8sError) and error.where else ""
        clock.note(f"no snapshot for the next start: {error}{where}")
        record = read_record(cluster.name)
        cluster = Cluster(record, inputs.plan) if record else cluster
        check_running(cluster.record)
    if cluster.record.memory == "private":
        # Other processes run its VMs than before, and under TCG those have to translate all code
        # again: on a slow machine the API server's first answer took 6 s, and kubectl waits 10.
        with clock.stage("checks after save"):
            check(cluster, clock, restored=True)
    return cluster


def _finish(cluster: Cluster, clock: Clock, phase: Phase) -> Cluster:
    """Write down that the cluster is up, once its VMs were seen to run. `HostError` when that
    cannot be written; the cluster stays.
    """
    record = attrs.evolve(cluster.record, phase=phase, seconds=clock.seconds)
    try:
        write_record(record)
    except OSError as error:
        raise HostError(
            f"cluster {record.name!r} runs, but that cannot be written down: {error.strerror}",
            where=str(state_dir(record.name)),
            hint="all commands except `up` and `scale` work with it; `xk8s down` ends it",
        ) from error
    return cluster.as_of(record)


__all__ = ["back_to", "snapshot", "up"]
