"""New processes take over the VMs of a running cluster, all at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import attrs

from xk8s.cluster.handle import Cluster
from xk8s.cluster.resume import check_running, written_down
from xk8s.cluster.state.booted import BootedCluster
from xk8s.cluster.state.node_paths import VOLUMES
from xk8s.cluster.state.record import Unfinished, write_record
from xk8s.cluster.vms import launch
from xk8s.cluster.vms.qmp_sessions import connect, each
from xk8s.cluster.vms.ram import memory_of
from xk8s.cluster.vms.volumes import copy_volumes
from xk8s.machine.qemu import migrate
from xk8s.util.paths import state_dir
from xk8s.util.processes import end


def hand_over(cluster: Cluster, boot: BootedCluster, work: Path) -> tuple[Cluster, float]:
    """Replace processes that share the RAM's files by new ones with private views of them, through
    device states that are left in ``work`` beside copies of the volumes. Return the resulting
    cluster, and for how many seconds it was paused.

    If this raises, or the command is killed, the old processes continue, or, once the first of them
    has ended, the new ones: see `xk8s.cluster.resume`.
    """
    old = {node.name: node for node in cluster.record.nodes}
    generation = cluster.record.latest + 1
    volumes = state_dir(boot.cluster) / VOLUMES
    unfinished = Unfinished(step="hand over")
    views = {
        name: attrs.evolve(memory, saved=True)
        for name, memory in memory_of(boot, "private").items()
    }
    with (
        written_down(cluster.record, unfinished),
        ExitStack() as stack,
        ThreadPoolExecutor(max_workers=len(old)) as pool,
    ):
        before = connect(stack, cluster.record, old)
        started = launch.start(
            boot, cluster.namespace, views, incoming=True, generation=generation,
        )  # fmt: skip
        after = connect(stack, attrs.evolve(cluster.record, nodes=started), old)
        write_record(
            attrs.evolve(cluster.record, unfinished=attrs.evolve(unfinished, nodes=started))
        )
        stopped = time.monotonic()
        each(pool, before, lambda _, qmp: qmp.execute("stop"))
        each(pool, before, lambda name, qmp: migrate.save(qmp, work / f"{name}.state"))
        each(pool, before, lambda name, _: copy_volumes(volumes, work, name))
        each(pool, after, lambda name, qmp: migrate.load(qmp, work / f"{name}.state"))
        # From here on there is no way back.
        end((node.process for node in old.values()), grace=0)
        each(pool, after, lambda _, qmp: qmp.execute("cont"))
        pause = time.monotonic() - stopped
        stack.close()
        record = attrs.evolve(
            cluster.record,
            memory="private",
            generation=generation,
            nodes=started,
        )
        check_running(record)
        write_record(record)
    return cluster.as_of(record), pause
