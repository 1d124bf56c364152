"""Comparison ``floor``: how far a node that is Ready is from what no boot can do without."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from xk8s.cluster.up import up
from xk8s.errors import UsageError
from xk8s.planning.plan import Plan

from xk8s_bench.comparison import Comparison, Prepared, Quantity, Way
from xk8s_bench.lab import Lab
from xk8s_bench.result import About
from xk8s_bench.vm import Parts, parts, switched_on

BASE = About(
    name="base",
    title="base system to login",
    how="A VM of the base overlay alone, from power-on to the prompt on its console.",
)
KERNEL = About(
    name="kernel",
    title="kernel and init alone",
    how="The same kernel and initramfs without a disk; the first program says so on the console "
    "and powers off, and the time is until QEMU is gone.",
)
NODE = About(
    name="node",
    title="one-node cluster to Ready",
    how="A cold `xk8s up` of one node with all overlays and no snapshot, from QEMU's start to the "
    "last check passed.",
)

QUANTITIES = (Quantity(name="time", title="from power-on", unit="s"),)
NODE_GOAL = 3.0
"""Issue 5: at most that many times the bare boot to login."""

_WORDS = "xk8s-bench: kernel and init alone"
# The kernel gives what is behind "--" to its first program.
_INIT = ("rdinit=/bin/sh", "--", "-c", f'"echo {_WORDS}; poweroff -f"')


def prepare(lab: Lab) -> Prepared:
    """Return the base overlay's VM, and the cluster of all overlays when there are more."""
    plan = lab.plan_of_nodes(1, "cluster.snapshot=false")
    base = base_overlay(plan)
    alone = lab.plan_of_nodes(1, overlays=(base,))
    made = parts(alone, lab.progress, lab.scratch, lab.held)
    ways = [
        Way(about=BASE, run=lambda: _base(lab, made)),
        Way(about=KERNEL, run=lambda: _kernel(lab, made)),
    ]
    plans = [alone]
    if plan.ctx.overlays != (base,):
        # Fetched and built here, so that it is not in the first run's time.
        parts(plan, lab.progress, lab.scratch, lab.held)
        ways.append(Way(about=NODE, run=lambda: _node(lab, plan), goals={"time": NODE_GOAL}))
        plans.append(plan)
    return Prepared(quantities=QUANTITIES, ways=tuple(ways), plans=tuple(plans))


def base_overlay(plan: Plan) -> str:
    """Return the overlay that provides the base system."""
    for name in plan.ctx.overlays:
        if "base" in plan.registry.overlay(name).provides:
            return name
    raise UsageError("none of the overlays provides a base system", where="floor")


def _base(lab: Lab, made: Parts) -> Mapping[str, float]:
    try:
        with switched_on(made, made.stack) as vm:
            return {"time": vm.seconds_to(made.prompt)}
    finally:
        lab.down()


def _kernel(lab: Lab, made: Parts) -> Mapping[str, float]:
    try:
        with switched_on(made, (), kernel_args=_INIT) as vm:
            vm.seconds_to(_WORDS)
            return {"time": vm.seconds_to_end()}
    finally:
        lab.down()


def _node(lab: Lab, plan: Plan) -> Mapping[str, float]:
    try:
        cluster = up(plan, lab.inner, cold=True)
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        return {"time": now - cluster.record.nodes[0].started / os.sysconf("SC_CLK_TCK")}
    finally:
        lab.down()


COMPARISON = Comparison(
    name="floor",
    summary="From power-on: kernel and init alone, the base system, a Ready node",
    series=(BASE, KERNEL, NODE),
    quantities=QUANTITIES,
    prepare=prepare,
)
