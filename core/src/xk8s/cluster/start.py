"""From a plan to a running cluster: artifacts, layers, machines, checks.

Any error, Ctrl-C and a kill leave nothing behind: processes carry the cluster's mark, and what
they leave is swept by this command itself, or by the next `up` or `down`. Only a cluster whose
VMs run but whose checks fail is kept, so that its user can look into it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import attrs

from xk8s.artifacts.lockfile import project_lock
from xk8s.artifacts.process import Jobs
from xk8s.artifacts.store import Resolved, Store
from xk8s.checks import run_checks
from xk8s.cluster import machines
from xk8s.cluster.access import Cluster
from xk8s.cluster.record import (
    NodeRecord,
    Phase,
    Record,
    locked,
    read_record,
    write_inputs,
    write_record,
)
from xk8s.cluster.stop import sweep
from xk8s.errors import CheckFailed, StateError
from xk8s.layers.build import BuiltLayer, LayerStore
from xk8s.overlay import File
from xk8s.paths import cache_dir, make_private, runtime_dir, runtime_root, state_dir, write_private
from xk8s.pki import Keys
from xk8s.plan import Plan
from xk8s.progress import Progress
from xk8s.qemu.accel import decide
from xk8s.qemu.leftovers import leftovers


def up(plan: Plan, progress: Progress, *, checks: bool = True) -> Cluster:
    """Start the cluster of a plan and run its checks.

    Raises `StateError` when one of that name runs; `CheckFailed` when a check fails (the
    cluster stays, phase "failed"); any other error after everything was swept away.
    """
    with locked(plan.name):
        _check_free(plan)
        sweep(plan.name)
        clock = _Clock(progress)
        try:
            cluster = _start(plan, clock)
            if checks:
                with clock.stage("checks"):
                    check(cluster, progress)
        except CheckFailed:
            _finish(plan, clock, "failed")
            raise
        except BaseException:
            sweep(plan.name)
            raise
        return Cluster(_finish(plan, clock, "running"), plan)


def check(cluster: Cluster, progress: Progress) -> None:
    """Run the checks of a cluster; `CheckFailed` with the log that matters for the first
    failure. Results are progress notes.
    """
    by_name = {one.name: one for one in cluster.plan.checks}
    for result in run_checks(
        cluster.plan.checks,
        cluster.checks,
        alive=cluster.check_alive,
        progress=lambda name, text: progress.item(name, text),
    ):
        progress.finish(result.name)
        if result.ok:
            progress.note(f"check {result.name}: {result.detail} ({result.seconds:.1f} s)")
            continue
        explain = by_name[result.name].explain
        raise CheckFailed(
            f"check {result.name}: {result.detail}",
            where=f"cluster {cluster.name!r}",
            hint="the VMs still run: `xk8s logs`, `xk8s exec`, `xk8s check`; end with `xk8s down`",
            log=explain(cluster.checks) if explain else "",
        )


def build(
    plan: Plan, progress: Progress
) -> tuple[Mapping[str, Resolved], Mapping[str, BuiltLayer]]:
    """Artifacts by key and layer images by name, from the cache where they are there. What is
    fetched must be what ./xk8s.lock says, where there is one.
    """
    jobs = Jobs()
    store = Store(cache_dir(), lock=project_lock(), jobs=jobs)
    with progress.stage("artifacts"):
        resolved = store.get_many(plan.artifacts, progress)
    layers = LayerStore(cache_dir(), jobs=jobs)
    with progress.stage("layers"), ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        try:
            futures = [
                pool.submit(layers.build, one.layer, resolved, progress) for one in plan.layers
            ]
            built = [future.result() for future in futures]
        except BaseException:
            # The pool's exit waits for its threads: they must not wait for a program's end.
            jobs.cancel()
            raise
    return resolved, {image.name: image for image in built}


class _Clock:
    """Stages with their seconds, for the record."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            with self.progress.stage(name):
                yield
        finally:
            self.seconds[name] = round(time.monotonic() - start, 3)

    # What `build` needs of a Progress, passed on.
    def note(self, text: str) -> None:
        self.progress.note(text)

    def item(self, key: str, text: str, *, done: int = 0, total: int = 0) -> None:
        self.progress.item(key, text, done=done, total=total)

    def finish(self, key: str) -> None:
        self.progress.finish(key)


def _check_free(plan: Plan) -> None:
    record = read_record(plan.name)
    if record is not None and record.phase != "starting" and leftovers(runtime_dir(plan.name)):
        raise StateError(
            f"cluster {plan.name!r} is up already",
            where=str(state_dir(plan.name)),
            hint="xk8s down, or use another --name",
        )


def _start(plan: Plan, clock: _Clock) -> Cluster:
    accel = decide(plan.cluster.accel)
    for note in accel.notes:
        clock.note(note)
    resolved, layers = build(plan, clock)
    with clock.stage("machines"):
        make_private(runtime_root())
        make_private(runtime_dir(plan.name))
        make_private(state_dir(plan.name))
        write_inputs(plan)
        record = Record(
            name=plan.name,
            phase="starting",
            overlays=plan.ctx.overlays,
            digest=plan.digest,
            accel=accel.name,
        )
        write_record(record)
        keys = Keys(state_dir(plan.name) / "pki")
        secrets = {node.node.name: _secrets(plan, node.node.name, keys) for node in plan.nodes}
        started = machines.start(plan, accel, resolved, layers, secrets)
        record = attrs.evolve(record, nodes=started)
        write_record(record)
        cluster = Cluster(record, plan)
        for name in plan.ctx.overlays:
            for file in plan.registry.many(
                name, "xk8s_host_files", File, access=cluster, keys=keys
            ):
                write_private(cluster.state_dir / file.path, file.data)
    with clock.stage("boot"):
        machines.wait_booted(cluster, clock.progress)
    return cluster


def _secrets(plan: Plan, node: str, keys: Keys) -> tuple[File, ...]:
    value = next(planned.node for planned in plan.nodes if planned.node.name == node)
    return tuple(
        file
        for name in plan.ctx.overlays
        for file in plan.registry.many(
            name, "xk8s_secrets", File, ctx=plan.ctx, node=value, keys=keys
        )
    )


def _finish(plan: Plan, clock: _Clock, phase: Phase) -> Record:
    record = read_record(plan.name)
    assert record is not None
    record = attrs.evolve(record, phase=phase, seconds=clock.seconds)
    write_record(record)
    return record


__all__ = ["NodeRecord", "build", "check", "up"]
