"""Comparison ``memory``: what clusters of several sizes take of this machine's memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from xk8s.cluster.down import down
from xk8s.cluster.handle import Cluster
from xk8s.cluster.up import back_to, snapshot, up
from xk8s.errors import MachineError
from xk8s.planning.plan import Plan
from xk8s.progress import Silent
from xk8s.util.host_memory import proportional_memory

from xk8s_bench.comparison import Comparison, Prepared, Quantity, Way
from xk8s_bench.lab import NAME, Lab
from xk8s_bench.result import About
from xk8s_bench.vm import parts, used

NODES = About(
    name="nodes-N",
    title="N nodes",
    how="A cluster of N nodes (and routers, if asked for), booted until its checks passed, saved, "
    "ended and restored; memory is the sum of the proportional set sizes (PSS) of its QEMUs, from "
    "/proc/PID/smaps_rollup.",
)

QUANTITIES = (
    Quantity(name="ready", title="booted, Ready: all VMs", unit="MiB"),
    Quantity(name="restored", title="restored, checks passed: all VMs", unit="MiB"),
    Quantity(name="ready-each", title="booted, Ready: per VM", unit="MiB"),
    Quantity(name="restored-each", title="restored, checks passed: per VM", unit="MiB"),
    Quantity(name="control", title="used in the first node's guest, Ready", unit="MiB"),
)

_LABEL = "measured"


def prepare(lab: Lab) -> Prepared:
    """A plan for each size. The first is what the others are compared with."""
    ways, plans = [], []
    for count in lab.counts:
        # It is saved here, once its memory was looked at: a save changes the processes.
        plan = lab.plan_of_nodes(count, "cluster.snapshot=false")
        parts(plan, lab.progress, lab.scratch, lab.held)
        plans.append(plan)
        ways.append(Way(about=_about(count), run=_runner(lab, plan)))
    return Prepared(quantities=QUANTITIES, ways=tuple(ways), plans=tuple(plans))


def _about(count: int) -> About:
    nodes = "1 node" if count == 1 else f"{count} nodes"
    return About(name=f"nodes-{count}", title=nodes, how=NODES.how.replace("N nodes", nodes))


def _runner(lab: Lab, plan: Plan) -> Callable[[], Mapping[str, float]]:
    def run() -> Mapping[str, float]:
        count = len(plan.nodes)
        try:
            cluster = up(plan, lab.inner, cold=True)
            ready = proportional(cluster)
            control = used(cluster.checks.ok(plan.nodes[0].node.name, "cat", "/proc/meminfo"))
            snapshot(NAME, _LABEL, lab.inner)
            down(NAME, Silent())
            restored = proportional(back_to(NAME, _LABEL, lab.inner))
        finally:
            lab.down()
        return {
            "ready": ready,
            "restored": restored,
            "ready-each": ready / count,
            "restored-each": restored / count,
            "control": control,
        }

    return run


def proportional(cluster: Cluster) -> float:
    """PSS of all its VMs in MiB; `MachineError` when one is gone."""
    each = {node.name: proportional_memory(node.pid) >> 20 for node in cluster.record.nodes}
    if gone := [name for name, used in each.items() if not used]:
        raise MachineError(f"the memory of {', '.join(gone)} cannot be read", where="/proc")
    return float(sum(each.values()))


COMPARISON = Comparison(
    name="memory",
    summary="Memory of this machine that clusters of several sizes take",
    series=(NODES,),
    quantities=QUANTITIES,
    prepare=prepare,
)
