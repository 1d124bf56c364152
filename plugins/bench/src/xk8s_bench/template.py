"""Comparison ``template``: nodes that are copies of one VM, against nodes that boot."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from xk8s.cluster.up import up
from xk8s.planning.plan import Plan

from xk8s_bench.comparison import Comparison, Prepared, Quantity, Way
from xk8s_bench.lab import Lab
from xk8s_bench.memory import proportional
from xk8s_bench.result import About
from xk8s_bench.vm import parts

BOOTED = About(
    name="booted-N",
    title="N booted",
    how="A cold `xk8s up` of N nodes without snapshot and template: time from the start of the VMs "
    "to the last check passed, and the sum of the proportional set sizes (PSS) of all QEMUs then.",
)
COPIED = About(
    name="copied-N",
    title="N copied",
    how="The same with a template, which is in the cache: each node is a copy of its memory.",
)

QUANTITIES = (
    Quantity(name="time", title="to checks passed", unit="s"),
    Quantity(name="memory", title="all VMs", unit="MiB"),
)

_GOAL_NODES, _GOAL = 4, 1.5
"""Issue 5: so many copied nodes take at most so many times as long as one that boots."""

_STAGES = ("template", "machines", "boot", "checks")


def prepare(lab: Lab) -> Prepared:
    """Two plans for each size. The first is what the others are compared with."""
    ways, plans = [], []
    for count in lab.counts:
        for series, template in ((BOOTED, "false"), (COPIED, "true")):
            sets = ("cluster.snapshot=false", f"cluster.template={template}")
            plan = lab.plan_of_nodes(count, *sets)
            parts(plan, lab.progress, lab.scratch, lab.held)
            plans.append(plan)
            about = About(
                name=series.name.replace("N", str(count)),
                title=series.title.replace("N", str(count)),
                how=series.how.replace("N nodes", "1 node" if count == 1 else f"{count} nodes"),
            )
            wanted = series is COPIED and count == _GOAL_NODES and lab.counts[0] == 1
            goals = {"time": _GOAL} if wanted else {}
            ways.append(Way(about=about, run=_runner(lab, plan), goals=goals))
    # The template is made here, so that it is in no run's time.
    _runner(lab, plans[-1])()
    return Prepared(quantities=QUANTITIES, ways=tuple(ways), plans=tuple(plans))


def _runner(lab: Lab, plan: Plan) -> Callable[[], Mapping[str, float]]:
    def run() -> Mapping[str, float]:
        try:
            cluster = up(plan, lab.inner, cold=True)
            seconds = cluster.record.seconds
            return {
                "time": sum(seconds.get(stage, 0.0) for stage in _STAGES),
                "memory": proportional(cluster),
            }
        finally:
            lab.down()

    return run


COMPARISON = Comparison(
    name="template",
    summary="Nodes that are copies of one booted VM, and nodes that boot",
    series=(BOOTED, COPIED),
    quantities=QUANTITIES,
    prepare=prepare,
)
