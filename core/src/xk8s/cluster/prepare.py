"""Preparing everything that VMs need, from the cache if possible."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from xk8s.build.artifacts.lockfile import project_lock
from xk8s.build.artifacts.store import Resolved, Store
from xk8s.build.layers.build import BuiltLayer, LayerStore
from xk8s.cluster.inputs import ClusterInputs
from xk8s.errors import HostError
from xk8s.machine.net.privileges import IPV6_REMEDY, has_ipv6
from xk8s.machine.qemu.accelerator import decide
from xk8s.planning.plan import Plan, PlannedLayer
from xk8s.progress import Progress
from xk8s.util.host_memory import memory_of_host
from xk8s.util.jobs import Jobs
from xk8s.util.paths import cache_dir


class Clock:
    """Stages with their seconds, for the record. The time of a stage inside another one counts for
    the inner stage alone, so that all of them add up to the time that the user waited.
    """

    def __init__(self, progress: Progress) -> None:
        """``progress`` shows the stages as well."""
        self.progress = progress
        self.seconds: dict[str, float] = {}
        self._inside = [0.0]

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Show it, as `Progress` does."""
        start = time.monotonic()
        self._inside.append(0.0)
        try:
            with self.progress.stage(name):
                yield
        finally:
            elapsed = time.monotonic() - start
            self.seconds[name] = round(elapsed - self._inside.pop(), 3)
            self._inside[-1] += elapsed

    def note(self, text: str) -> None:
        """Show it, as `Progress` does."""
        self.progress.note(text)

    def item(self, key: str, text: str, *, done: int = 0, total: int = 0) -> None:
        """Show it, as `Progress` does."""
        self.progress.item(key, text, done=done, total=total)

    def finish(self, key: str) -> None:
        """Show it, as `Progress` does."""
        self.progress.finish(key)


def make_inputs(plan: Plan, clock: Clock, held: ExitStack) -> ClusterInputs:
    """Return the inputs of a plan. Errors are those of `build`, and `HostError` without QEMU."""
    _check_memory(plan)
    _check_ipv6(plan)
    accel = decide(plan.cluster.accel)
    for note in accel.notes:
        clock.note(note)
    resolved, layers = build(plan, clock, held)
    return ClusterInputs(plan=plan, accel=accel, resolved=resolved, layers=layers)


def _check_ipv6(plan: Plan) -> None:
    """Raise `HostError` when this machine could not be on the networks of the cluster."""
    family = plan.cluster.ip_family
    if family != "ipv4" and not has_ipv6():
        raise HostError(
            f"the cluster's IP family is {family}, and this machine's kernel has IPv6 switched off",
            where="/proc/net/if_inet6",
            hint=f"{IPV6_REMEDY}, or use --ip-family ipv4",
        )


def _check_memory(plan: Plan) -> None:
    """Raise `HostError` for a VM that can never run here, before anything is built for it."""
    total = memory_of_host("MemTotal") >> 20
    for planned in plan.nodes:
        if planned.node.memory > total:
            raise HostError(
                f"{planned.node.name} needs {planned.node.memory} MiB of memory, and this "
                f"machine has {total}",
                where=f"cluster.memory, {planned.node.role}",
                hint=f"give it less: -s cluster.memory={planned.node.role}=…",
            )


def build(
    plan: Plan, progress: Progress, held: ExitStack
) -> tuple[Mapping[str, Resolved], Mapping[str, BuiltLayer]]:
    """Return artifacts by key and layer images by name, from the cache if they exist there. What is
    fetched must match ./xk8s.lock, if there is one. Until the result is closed, no image is removed
    by anybody.
    """
    jobs = Jobs()
    store = Store(cache_dir(), lock=project_lock(), jobs=jobs)
    with progress.stage("artifacts"):
        resolved = store.get_many(plan.artifacts, progress)
    layers = LayerStore(cache_dir(), jobs=jobs)

    local = {directory.layer for directory in plan.directories}

    def one(planned: PlannedLayer) -> BuiltLayer:
        while True:
            image = layers.build(
                planned.layer,
                resolved,
                progress,
                overlay=planned.overlay,
                # What users put there may be nobody else's business.
                private=planned.layer.name in local,
            )
            if hold := layers.hold(image):
                held.callback(hold.close)
                return image

    with progress.stage("layers"), ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        try:
            futures = [pool.submit(one, planned) for planned in plan.layers]
            built = [future.result() for future in futures]
        except BaseException:
            # The pool's exit waits for its threads: they must not wait for a program's end.
            jobs.cancel()
            raise
    return resolved, {image.name: image for image in built}
