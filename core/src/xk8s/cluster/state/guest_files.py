"""What the guests of a cluster have now: ``now.json`` of its state, and of its snapshots.

At boot that is what their disks have. `xk8s apply` changes it node by node, and writes down what
it is about to do before it does it: so that a failed or killed apply is never taken for a done one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import attrs
import cattrs
from attrs import frozen

from xk8s.build.layers.stack import identity
from xk8s.cluster.inputs import ClusterInputs
from xk8s.cluster.state.documents import read_document
from xk8s.overlay import File
from xk8s.planning.plan import NODE_LAYER, Plan, PlannedNode
from xk8s.util.digest import digest
from xk8s.util.paths import state_dir, write_private

GUEST_FILES = "now.json"
_VERSION = 1


@frozen(kw_only=True)
class NodeFiles:
    """A guest's files. ``stack``: (layer, key of its image), lowest first, the node's own files
    among them with key "". ``files``: of these and of secrets, path -> identity (see
    `xk8s.build.layers.stack`). ``unsure`` are
    paths that an apply was about to change, ``units`` those that it had yet to restart. ``boot`` is
    the guest's boot id at that time: with another one it has rebooted, and has what it booted from.
    """

    stack: tuple[tuple[str, str], ...]
    files: dict[str, str]
    unsure: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    boot: str = ""


@frozen(kw_only=True)
class GuestFiles:
    """Files of all guests. ``key`` is that of a snapshot of the cluster, "" while the guests match
    no plan. ``overlays``: name -> digest of everything that the overlay gave.
    """

    version: int = _VERSION
    key: str
    overlays: dict[str, str]
    nodes: dict[str, NodeFiles]

    @property
    def layers(self) -> dict[str, str]:
        """Name -> key of the images in the cache that an apply compares with."""
        return {name: key for node in self.nodes.values() for name, key in node.stack if key}


def guest_files_of(
    inputs: ClusterInputs, key: str, secrets: Mapping[str, Sequence[File]]
) -> GuestFiles:
    """Return what the guests have that were just booted (or brought to a plan); secrets by node."""
    plan = inputs.plan
    return GuestFiles(
        key=key,
        overlays=overlay_digests(plan),
        nodes={
            planned.node.name: node_files(inputs, planned, secrets.get(planned.node.name, ()))
            for planned in plan.nodes
        },
    )


def node_files(inputs: ClusterInputs, planned: PlannedNode, secrets: Iterable[File]) -> NodeFiles:
    """Return what one node has."""
    return NodeFiles(
        stack=tuple(
            (name, "" if name == NODE_LAYER else inputs.layers[name].key)
            for name in inputs.plan.stack(planned)
        ),
        files={file.path: identity(file.mode, file.data) for file in (*planned.files, *secrets)},
    )


def overlay_digests(plan: Plan) -> dict[str, str]:
    """Digest of what each overlay contributes to a cluster: it tells which ones changed."""
    bare = attrs.evolve(plan.ctx, all_fragments={})
    layers: dict[str, list[str]] = {}
    for layer in plan.layers:
        layers.setdefault(layer.overlay, []).append(layer.digest)
    files: dict[str, list[object]] = {}
    for planned in plan.nodes:
        for file in planned.files:
            owner = planned.owners.get(file.path, "")
            files.setdefault(owner, []).append((planned.node.name, file))
    return {
        name: digest(
            {
                "layers": layers.get(name, []),
                "files": files.get(name, []),
                "fragments": plan.registry.hooks.fragments(name, bare),
            }
        )
        for name in plan.ctx.overlays
    }


def write_guest_files(now: GuestFiles, directory: Path) -> None:
    """Keep it below ``directory``, a cluster's or a snapshot's."""
    write_private(directory / GUEST_FILES, json.dumps(cattrs.unstructure(now), indent=1).encode())


def read_guest_files(directory: Path) -> GuestFiles:
    """Return what `write_guest_files` kept; `StateError` when that cannot be read."""
    return read_document(
        directory / GUEST_FILES,
        GuestFiles,
        version=_VERSION,
        what="which files the guests have is unknown",
    )


def remember_files(cluster: str, node: str, files: Iterable[File]) -> None:
    """Own files or secrets of a node were replaced (by new keys)."""
    now = read_guest_files(state_dir(cluster))
    old = now.nodes[node]
    new = {file.path: identity(file.mode, file.data) for file in files}
    nodes = {**now.nodes, node: attrs.evolve(old, files={**old.files, **new})}
    write_guest_files(attrs.evolve(now, nodes=nodes), state_dir(cluster))
