"""What overlays make of a cluster's keys: files of its nodes, and files for the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from xk8s.overlay import File, Node
from xk8s.pki import Keys
from xk8s.planning.plan import Plan
from xk8s.util.paths import write_private

if TYPE_CHECKING:
    from xk8s.cluster.handle import Cluster

PKI = "pki"
"""Directory of a cluster's keys, below its state."""


def secrets(plan: Plan, node: Node, keys: Keys) -> Mapping[str, tuple[File, ...]]:
    """Return the files of one node by overlay, of those that have any. Missing keys are made."""
    given = {
        name: tuple(plan.registry.hooks.secrets(name, plan.ctx, node, keys))
        for name in plan.ctx.overlays
    }
    return {name: files for name, files in given.items() if files}


def flat(given: Mapping[str, Sequence[File]]) -> tuple[File, ...]:
    """Return the files of all overlays."""
    return tuple(file for files in given.values() for file in files)


def write_host_files(cluster: Cluster) -> None:
    """What the overlays want on the host (a kubeconfig), below the cluster's state."""
    keys = Keys(cluster.state_dir / PKI)
    for name in cluster.plan.ctx.overlays:
        for file in cluster.plan.registry.hooks.host_files(name, cluster, keys):
            write_private(cluster.state_dir / file.path, file.data)
