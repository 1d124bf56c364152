"""The saved cluster that comes nearest to a plan without a snapshot of its own."""

from __future__ import annotations

from attrs import frozen

from xk8s.cluster.change.needs_reboot import obstacles
from xk8s.cluster.inputs import ClusterInputs
from xk8s.cluster.snapshots import store
from xk8s.cluster.state.booted import BootedCluster, read_boot
from xk8s.cluster.state.guest_files import GuestFiles, node_files, read_guest_files
from xk8s.errors import StateError
from xk8s.util.log import get_logger

log = get_logger(__name__)


@frozen(kw_only=True)
class NearestSnapshot:
    """A snapshot that fits the plan's VMs. ``differing`` are the names of layers that differ,
    ``distance`` counts them and files of nodes.
    """

    saved: store.Snapshot
    boot: BootedCluster
    differing: tuple[str, ...]
    distance: int


def nearest_snapshot(inputs: ClusterInputs) -> NearestSnapshot | None:
    """Return, of the snapshots of other plans that `up` kept under this name, the one with the
    fewest changes, and of several the latest. It has no overlay that the plan lacks: effects of
    that overlay would remain.
    """
    found = []
    own = store.auto_label(store.key_of(inputs))
    for snapshot in store.list_snapshots():
        if snapshot.cluster != inputs.plan.name or not snapshot.label.startswith(store.AUTO):
            continue
        if snapshot.label == own:  # it was tried, and what it became did not pass its checks
            continue
        if more := {*snapshot.overlays} - {*inputs.plan.ctx.overlays}:
            _unused(
                snapshot, f"it has overlays that are not in the plan: {', '.join(sorted(more))}"
            )
            continue
        try:
            boot, now = read_boot(snapshot.directory), read_guest_files(snapshot.directory)
        except StateError as error:
            _unused(snapshot, str(error))
            continue
        why = store.problem(snapshot, accel=inputs.accel) or boot.missing()
        if why := why or "; ".join(obstacles(boot, now, inputs)):
            _unused(snapshot, why)
            continue
        differing, distance = _difference(now, inputs)
        found.append(
            NearestSnapshot(saved=snapshot, boot=boot, differing=differing, distance=distance)
        )
    return min(
        found, key=lambda candidate: (candidate.distance, -candidate.saved.created), default=None
    )


def _unused(saved: store.Snapshot, reason: str) -> None:
    log.info("snapshot_unused", label=saved.label, reason=reason)


def _difference(now: GuestFiles, inputs: ClusterInputs) -> tuple[tuple[str, ...], int]:
    layers: dict[str, None] = {}
    distance = 0
    for planned in inputs.plan.nodes:
        old, new = now.nodes[planned.node.name], node_files(inputs, planned, ())
        changed = {*old.stack} ^ {*new.stack}
        layers |= {name: None for name, key in (*new.stack, *old.stack) if (name, key) in changed}
        distance += len(changed)
        distance += sum(old.files.get(path) != digest for path, digest in new.files.items())
    return tuple(layers), distance
