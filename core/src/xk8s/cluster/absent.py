"""Nodes of a cluster that do not take part: their VM is dead, or paused: by the user, or
because a disk of this machine is full.

A guest agent that is asked would answer nothing for as long as one waits. So the others are worked
on without these nodes, and whoever asks for one of them gets an error at once that says what to do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, get_args

import attrs

from xk8s.cluster.resume import OUT_OF_SPACE, vm_state
from xk8s.cluster.state.node_paths import VOLUMES, pause_mark, volumes_in
from xk8s.cluster.state.record import NodeRecord, Record
from xk8s.errors import StateError
from xk8s.overlay import Node
from xk8s.planning.plan import Plan
from xk8s.util.paths import state_dir
from xk8s.verbs import DEFAULT_NAME

Absence = Literal["dead", "paused", "out of disk space"]
ABSENCES: tuple[Absence, ...] = get_args(Absence)
_REMEDIES: Mapping[Absence, str] = {
    "dead": "start",
    "paused": "resume",
    OUT_OF_SPACE: "resume",
}


def why_paused(record: Record, node: NodeRecord) -> Absence | None:
    """Return why a living VM does not run: the user paused it, or this machine's disk is full. Only
    those with the mark of `xk8s node pause` or with volumes are asked: that takes a session with
    QEMU.
    """
    paused = pause_mark(record.name, node.name).exists()
    if not paused and not volumes_in(state_dir(record.name) / VOLUMES, node.name):
        return None
    state = vm_state(record, node, timeout=2.0)
    if state == OUT_OF_SPACE:
        return OUT_OF_SPACE
    return "paused" if paused and state == "paused" else None


def remedy(cluster: str, node: str, absence: Absence) -> str:
    """Return the command that brings a node back."""
    name = "" if cluster == DEFAULT_NAME else f" --name {cluster}"
    command = f"xk8s node {_REMEDIES[absence]} {node}{name}"
    if absence == OUT_OF_SPACE:
        return f"free some space where {state_dir(cluster)} is, then {command}"
    return command


def absence_text(cluster: str, node: str, absence: Absence) -> str:
    """Return what is wrong with a node, and the command against it."""
    return f"{node} is {absence}: {remedy(cluster, node, absence)}"


def refuse_absent(cluster: str, absent: Mapping[str, Absence], what: str) -> None:
    """`StateError` unless all nodes take part: the cluster cannot be ``what`` then."""
    if absent:
        which = ", ".join(f"{node} is {absence}" for node, absence in absent.items())
        raise StateError(
            f"cluster {cluster!r} cannot be {what}: {which}",
            where=str(state_dir(cluster)),
            hint="; ".join(remedy(cluster, *item) for item in absent.items()),
        )


def ended(name: str) -> StateError:
    """Return the error for a cluster of which no VM runs."""
    return StateError(
        f"cluster {name!r} has ended: none of its VMs runs any more",
        where=str(state_dir(name)),
        hint="`xk8s up` or `xk8s reset` starts it again, `xk8s down` removes what is left",
    )


def without(plan: Plan, absent: Collection[str]) -> Plan:
    """Return the plan as its overlays should see it while some nodes do not take part. A control
    plane or router stays if it is the only one: nothing works without it, and that must show.
    """
    if not absent:
        return plan
    there = [node for node in plan.ctx.nodes if node.name not in absent]

    def stays(node: Node) -> bool:
        needed = node.role in ("control-plane", "router")
        return node in there or (needed and all(other.role != node.role for other in there))

    ctx = attrs.evolve(plan.ctx, nodes=tuple(node for node in plan.ctx.nodes if stays(node)))
    hooks = plan.registry.hooks
    checks = tuple(check for name in ctx.overlays for check in hooks.checks(name, ctx))
    return attrs.evolve(plan, ctx=ctx, checks=checks)
