"""What each node of a running cluster lacks of a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import attrs

from xk8s.build.layers.build import layers_dir
from xk8s.build.layers.diff import Difference, difference
from xk8s.build.layers.erofs_read import open_image
from xk8s.build.layers.stack import FilesLevel, ImageLevel, Stack, StackLevel
from xk8s.cluster.change.units import Actions, actions
from xk8s.cluster.inputs import ClusterInputs
from xk8s.cluster.state.guest_files import GuestFiles, NodeFiles, node_files
from xk8s.cluster.state.secrets import flat
from xk8s.cluster.vms.launch import own_files
from xk8s.errors import StateError
from xk8s.overlay import File
from xk8s.planning.plan import NODE_LAYER, PlannedNode
from xk8s.util.paths import cache_dir


@attrs.define(eq=False)
class NodeWork:
    """The changes of one node."""

    planned: PlannedNode
    before: NodeFiles
    after: NodeFiles
    secrets: Mapping[str, Sequence[File]]
    old: Stack
    new: Stack
    change: Difference
    todo: Actions
    unused: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The node's."""
        return self.planned.node.name

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.change.paths and self.todo == Actions()

    def own(self, path: str) -> bytes:
        """Return the content of one of the node's own files or secrets."""
        for file in (*self.planned.files, *flat(self.secrets)):
            if file.path == path:
                return file.data
        raise KeyError(path)


@attrs.define(eq=False)
class Levels:
    """Images, each opened once, and closed with the given stack."""

    _stack: ExitStack
    _open: dict[str, ImageLevel] = attrs.field(factory=dict, init=False)

    def stack(self, node: NodeFiles) -> Stack:
        """Return what a node has."""
        return Stack([self._level(name, key, node) for name, key in node.stack])

    def _level(self, name: str, key: str, node: NodeFiles) -> StackLevel:
        if name == NODE_LAYER:
            return FilesLevel(name=name, files=node.files)
        found = self._open.get(f"{name} {key}")
        if found is None:
            path = layers_dir(cache_dir()) / f"{key}.erofs"
            if not path.exists():
                raise StateError(
                    f"the image of layer {name} that the nodes have is no longer in the cache",
                    where=str(path),
                    hint="xk8s down, then xk8s up",
                )
            image = self._stack.enter_context(open_image(path))
            found = self._open[f"{name} {key}"] = ImageLevel(name=name, key=key, image=image)
        return found


def compare(
    inputs: ClusterInputs,
    planned: PlannedNode,
    now: GuestFiles,
    given: Mapping[str, Sequence[File]],
    levels: Levels,
) -> NodeWork:
    """Return what changes a node to ``inputs``'s plan; ``given`` are its secrets by overlay.
    `StateError` if an image of what it has is gone; `PlanError` for a file given twice.
    """
    before = now.nodes[planned.node.name]
    own = flat(given)
    own_files(planned, own)  # or say which file is given twice
    after = node_files(inputs, planned, own)
    old, new = levels.stack(before), levels.stack(after)
    ready = {
        planned_layer.layer.name
        for planned_layer in inputs.plan.layers
        if planned_layer.layer.image
    }
    change = difference(old, new, ready=ready, unsure=before.unsure)
    moved = {*change.paths}
    return NodeWork(
        planned=planned,
        before=before,
        after=after,
        secrets=given,
        old=old,
        new=new,
        change=change,
        todo=actions(
            inputs.plan,
            planned,
            change,
            new,
            overlays=[
                overlay
                for overlay, files in given.items()
                if any(file.path in moved for file in files)
            ],
            pending=before.units,
        ),
    )
