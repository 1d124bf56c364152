"""New keys for a running cluster: authorities, certificates, keys of tokens, all of them.

``pki.new`` beside the cluster's ``pki`` has the new ones until every node has them and everything
that uses them was restarted; then it replaces ``pki``, which is kept as ``pki.old`` until the
cluster passed its checks. So a rotation that failed or was killed continues with the same new keys
when it is run again, and the nodes never have keys that the host lacks.

Files go to the nodes by the guest agent, over what their own layers have: these images are disks
of running VMs and parts of snapshots, and stay as they are.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import attrs

from xk8s.cluster.change.push import push
from xk8s.cluster.change.units import restart, short, units_of
from xk8s.cluster.checks.run import check
from xk8s.cluster.handle import Cluster, open_cluster
from xk8s.cluster.snapshots import store
from xk8s.cluster.state.guest_files import remember_files
from xk8s.cluster.state.passed_checks import remember_passed
from xk8s.cluster.state.record import locked, write_record
from xk8s.cluster.state.secrets import PKI, flat, secrets, write_host_files
from xk8s.context import ClusterAccess
from xk8s.errors import CheckFailed, StateError
from xk8s.overlay import File
from xk8s.pki import Keys
from xk8s.planning.plan import Plan, PlannedNode
from xk8s.progress import Progress
from xk8s.verbs import KeyRotation

NEW, OLD = "pki.new", "pki.old"


Renew = Callable[[ClusterAccess, Progress], None]


def rotate_keys(name: str, progress: Progress, *, renew: Renew | None = None) -> KeyRotation:
    """Rotate all keys of a running cluster, and run its checks.

    ``renew`` is called when the nodes and the host have the new keys, for what is neither a file
    nor a unit. Raises `StateError` if there is no such cluster or it has no keys, `MachineError` if
    a node does not answer or a unit does not start, `CheckFailed`; calling it again then continues.
    """
    with locked(name):
        cluster = open_cluster(name)
        cluster.check_present()
        state = cluster.state_dir
        _mend(state)
        going_on = (state / OLD).exists()
        keys = Keys(state / (PKI if going_on else NEW))
        if going_on or (state / NEW).exists():
            progress.note("an earlier rotation did not finish: continuing with its keys")
        with progress.stage("keys"):
            given = {
                planned.node.name: secrets(cluster.plan, planned.node, keys)
                for planned in cluster.plan.nodes
            }
            if not any(given.values()):
                raise StateError(
                    f"cluster {name!r} has no keys", hint="none of its overlays creates any"
                )
            for node, files in given.items():
                if files:
                    progress.item(node, "writing keys")
                    push(cluster, node, flat(files))
                    remember_files(name, node, flat(files))
                    progress.finish(node)
        with progress.stage("restart"):
            for group in in_order(cluster.plan.nodes):
                with ThreadPoolExecutor(max_workers=len(group)) as pool:
                    list(
                        pool.map(lambda planned: _restart(cluster, planned, given, progress), group)
                    )
        switch(state)
        write_host_files(cluster)
        if renew is not None:
            with progress.stage("renew"):
                renew(cluster, progress)
        try:
            with progress.stage("checks"):
                check(cluster, progress)
        except CheckFailed:
            write_record(attrs.evolve(cluster.record, phase="failed"))
            raise
        remember_passed(cluster.plan, state)
        removed, kept = _snapshots_with(state / OLD, name)
        for snapshot in removed:
            store.remove(snapshot)
        gone = {snapshot.label for snapshot in removed}
        if cluster.record.snapshot in gone:
            cluster.record = attrs.evolve(cluster.record, snapshot="")
        # It may have failed before, for want of working keys.
        cluster.record = attrs.evolve(cluster.record, phase="running")
        write_record(cluster.record)
        shutil.rmtree(state / OLD, ignore_errors=True)
        return KeyRotation(
            cluster=cluster,
            removed=tuple(sorted(gone)),
            kept=tuple(sorted(snapshot.label for snapshot in kept)),
        )


def switch(state: Path) -> None:
    """Let the new keys be those of the cluster, and keep the old ones aside."""
    if (state / NEW).exists():
        if (state / PKI).exists():
            (state / PKI).rename(state / OLD)
        (state / NEW).rename(state / PKI)


def _mend(state: Path) -> None:
    """Finish a `switch` that was killed between its two steps."""
    if not (state / PKI).exists():
        switch(state)


def in_order(nodes: Iterable[PlannedNode]) -> list[list[PlannedNode]]:
    """What the others depend on goes first, by itself."""
    first = [planned for planned in nodes if planned.node.role == "control-plane"]
    others = [planned for planned in nodes if planned.node.role != "control-plane"]
    return [group for group in (first, others) if group]


def _restart(
    cluster: Cluster,
    planned: PlannedNode,
    given: Mapping[str, Mapping[str, Sequence[File]]],
    progress: Progress,
) -> None:
    """Restart what uses the keys."""
    node = planned.node.name
    units = units_with_keys(cluster.plan, planned, given[node])
    if units:
        progress.item(node, f"restarting {short(units)}")
        hint = "the old keys are kept; fix the cause and run it again: it continues"
        restart(cluster, node, units, hint=hint)
        progress.finish(node)


def units_with_keys(
    plan: Plan, planned: PlannedNode, given: Mapping[str, Sequence[File]]
) -> tuple[str, ...]:
    """Return the units that use files with keys: those that a file names itself, and those of the
    overlay's layers.
    """
    named = (file.units or () for files in given.values() for file in files)
    return tuple(dict.fromkeys((*units_of(plan, planned, given), *chain.from_iterable(named))))


def _snapshots_with(keys: Path, cluster: str) -> tuple[list[store.Snapshot], list[store.Snapshot]]:
    """Snapshots that have one of these private keys: those made by `up`, and the user's."""
    old = {path.read_bytes() for path in keys.glob("*.key")}
    auto: list[store.Snapshot] = []
    own: list[store.Snapshot] = []
    for snapshot in store.list_snapshots():
        inside = (snapshot.directory / PKI).glob("*.key")
        if snapshot.cluster == cluster and any(path.read_bytes() in old for path in inside):
            (auto if snapshot.label.startswith(store.AUTO) else own).append(snapshot)
    return auto, own
