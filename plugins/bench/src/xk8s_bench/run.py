"""Runs a comparison: all its series in turn, as often as asked for."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Mapping

from xk8s.errors import Xk8sError
from xk8s.machine.qemu.accelerator import decide
from xk8s.names.registry import available
from xk8s.planning.plan import Plan
from xk8s.report.host import versions

from xk8s_bench.comparison import Comparison, Prepared, Way
from xk8s_bench.lab import Lab
from xk8s_bench.result import Measure, Planned, Result, Run, Series, amount

_MACHINE = ("memory", "kernel", "system", "qemu")


def measure(comparison: Comparison, lab: Lab, runs: int) -> Result:
    """Return the result of ``runs`` runs of each series, in alternating order (A B A B …): what
    changes on this machine meanwhile meets all of them.

    Raises what a run raises, with its name in ``where``: a result has no holes.
    """
    prepared = comparison.prepare(lab)
    got: list[dict[str, list[float]]] = [{} for _ in prepared.ways]
    order = []
    for number in range(1, runs + 1):
        for way, values in zip(prepared.ways, got, strict=True):
            label = f"{comparison.name}, {way.about.name}, run {number} of {runs}"
            order.append(Run(series=way.about.name, number=number, load=os.getloadavg()[0]))
            for name, value in _once(way, label, lab).items():
                values.setdefault(name, []).append(value)
            _tell(prepared, values, label, lab)
    return Result(
        comparison=comparison.name,
        summary=comparison.summary,
        made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        runs=runs,
        series=tuple(way.about for way in prepared.ways),
        measures=tuple(_measures(prepared, got)),
        order=tuple(order),
        plans=tuple(
            Planned(
                overlays=plan.ctx.overlays,
                nodes=tuple(planned.node.name for planned in plan.nodes),
                digest=plan.digest,
            )
            for plan in prepared.plans
        ),
        machine=machine(prepared.plans[0]),
        versions=_versions(prepared.plans),
    )


def _once(way: Way, label: str, lab: Lab) -> Mapping[str, float]:
    try:
        with lab.progress.stage(label):
            return way.run()
    except Xk8sError as error:
        error.where = f"{label}: {error.where}" if error.where else label
        raise


def _tell(prepared: Prepared, values: Mapping[str, list[float]], label: str, lab: Lab) -> None:
    said = [
        f"{quantity.title} {amount(values[quantity.name][-1], quantity.unit)}"
        for quantity in prepared.quantities
    ]
    lab.progress.note(f"{label}: {'; '.join(said)}")


def _measures(prepared: Prepared, got: list[dict[str, list[float]]]) -> list[Measure]:
    return [
        Measure(
            name=quantity.name,
            title=quantity.title,
            unit=quantity.unit,
            series=tuple(
                Series(
                    name=way.about.name,
                    values=tuple(values[quantity.name]),
                    goal=way.goals.get(quantity.name),
                )
                for way, values in zip(prepared.ways, got, strict=True)
            ),
        )
        for quantity in prepared.quantities
    ]


def machine(plan: Plan) -> Mapping[str, str]:
    """This machine, and how it runs the VMs of a plan."""
    found = versions()
    accel = decide(plan.cluster.accel)
    return {
        "cpu": str(found["cpu"]).partition(",")[0],  # without flags: accel_reason has those
        **{key: str(found[key]) for key in _MACHINE},
        "accel": accel.name.upper(),
        "accel_reason": accel.reason,
    }


def _versions(plans: Iterable[Plan]) -> Mapping[str, str]:
    used = {name for plan in plans for name in plan.ctx.overlays}
    # A local directory has none: its digest is in the plan's.
    overlays = {offer.name: offer.origin for offer in available() if not offer.refused}
    return {
        "xk8s": str(versions()["xk8s"]),
        **{name: overlays[name] for name in sorted(used) if name in overlays},
    }
