"""New processes take over the VMs of a running cluster, all at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import attrs

from xk8s.cluster.handle import Cluster
from xk8s.cluster.state.booted import BootedCluster
from xk8s.cluster.state.record import NodeRecord, write_record
from xk8s.cluster.vms import launch
from xk8s.cluster.vms.qmp_sessions import connect, each
from xk8s.cluster.vms.ram import memory_of
from xk8s.machine.qemu import migrate
from xk8s.util.processes import end


def hand_over(cluster: Cluster, boot: BootedCluster, work: Path) -> tuple[Cluster, float]:
    """Replace processes that share the RAM's files by new ones with private views of them, through
    device states that are left in ``work``. Return the resulting cluster, and for how many seconds
    it was paused.

    If this raises before the old processes ended, they continue.
    """
    old = {node.name: node for node in cluster.record.nodes}
    generation = cluster.record.latest + 1
    views = {
        name: attrs.evolve(memory, saved=True)
        for name, memory in memory_of(boot, "private").items()
    }
    with ExitStack() as stack, ThreadPoolExecutor(max_workers=len(old)) as pool:
        before = connect(stack, cluster.record, old)
        started: tuple[NodeRecord, ...] = ()
        stopped = 0.0
        try:
            started = launch.start(
                boot, cluster.namespace, views,
                incoming=True, generation=generation,
            )  # fmt: skip
            after = connect(stack, attrs.evolve(cluster.record, nodes=started), old)
            stopped = time.monotonic()
            each(pool, before, lambda _, qmp: qmp.execute("stop"))
            each(pool, before, lambda name, qmp: migrate.save(qmp, work / f"{name}.state"))
            each(pool, after, lambda name, qmp: migrate.load(qmp, work / f"{name}.state"))
        except BaseException:
            end((node.process for node in started), grace=0)
            if stopped:
                each(pool, before, lambda _, qmp: qmp.execute("cont"))
            raise
        end((node.process for node in old.values()), grace=0)
        each(pool, after, lambda _, qmp: qmp.execute("cont"))
        pause = time.monotonic() - stopped
    record = attrs.evolve(
        cluster.record,
        memory="private",
        generation=generation,
        nodes=started,
    )
    write_record(record)
    return cluster.as_of(record), pause
