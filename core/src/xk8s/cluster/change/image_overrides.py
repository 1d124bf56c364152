"""What local directories replace in the images of a cluster: known exactly once these are made."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from attrs import define, evolve

from xk8s.build.layers.erofs_read import open_image
from xk8s.build.layers.stack import ImageLevel, Stack
from xk8s.overlay import Directory, Entry
from xk8s.planning.overrides import Override, Replaced, hides, leads_through
from xk8s.planning.plan import NODE_LAYER, Plan


@define(eq=False)
class _Below:
    """What is below a directory's layer in one node. ``overlays`` has the owner of each layer,
    ``owners`` those of the node's own files by path.
    """

    directory: str
    node: str
    stack: Stack
    overlays: Mapping[str, str]
    owners: Mapping[str, str]

    def replaced(self, entry: Entry) -> Replaced | None:
        """Return what exists at the path of ``entry`` already; None if nothing does."""
        is_directory = isinstance(entry, Directory)
        parts = entry.path.split("/")[1:]
        for count in range(1, len(parts) + is_directory):
            prefix = "/" + "/".join(parts[:count])
            if (there := self.stack.find(prefix)) and there[1].kind != "directory":
                raise leads_through(
                    self.directory, entry.path, prefix, self._whose(there[0].name), there[1].target
                )
        if (there := self.stack.find(entry.path)) is None:
            return None
        level, found = there
        if found.kind == "directory" and not is_directory:
            raise hides(self.directory, entry.path, self._whose(level.name))
        if level.name == NODE_LAYER:
            overlay = self.owners.get(entry.path, "xk8s")
            return Replaced(path=entry.path, overlay=overlay, nodes=(self.node,))
        return Replaced(path=entry.path, overlay=self.overlays[level.name], layer=level.name)

    def _whose(self, layer: str) -> str:
        """Name the owner, for errors."""
        if layer == NODE_LAYER:
            return f"{self.node} itself"
        return f"{self.overlays[layer]} (layer {layer})"


def over_images(
    plan: Plan, layers: Mapping[str, Path], own: Mapping[str, Path]
) -> tuple[Override, ...]:
    """Return what each local directory of ``plan`` does. ``layers`` are images by the name of their
    layer, ``own`` those of the nodes by theirs.

    `PlanError` where a file or link would hide a directory of an image, or a directory would hide
    a file or link.
    """
    if not plan.directories:
        return ()
    with ExitStack() as images:

        def level(name: str, path: Path) -> ImageLevel:
            image = images.enter_context(open_image(path))
            return ImageLevel(name=name, key=str(path), image=image)

        levels = {
            planned.layer.name: level(planned.layer.name, layers[planned.layer.name])
            for planned in plan.layers
        }
        nodes = {name: level(NODE_LAYER, path) for name, path in own.items()}
        return tuple(_over(plan, planned, levels, nodes) for planned in plan.directories)


def _over(
    plan: Plan, planned: Override, levels: Mapping[str, ImageLevel], nodes: Mapping[str, ImageLevel]
) -> Override:
    (entries,) = (layer.layer.entries for layer in plan.layers if layer.layer.name == planned.layer)
    overlays = {layer.layer.name: layer.overlay for layer in plan.layers}
    # Of a node's own files the plan knows whose they are; what it does not know is made at start.
    owners = {replaced.path: replaced.overlay for replaced in planned.replaced if replaced.nodes}
    replaced: dict[Replaced, list[str]] = {}
    added: dict[str, None] = {}
    for node in plan.nodes:
        name = node.node.name
        stack = plan.stack(node)
        below = _Below(
            directory=planned.directory,
            node=name,
            stack=Stack(
                [levels.get(layer, nodes[name]) for layer in stack[: stack.index(planned.layer)]]
            ),
            overlays=overlays,
            owners=owners,
        )
        for entry in entries:
            there = below.replaced(entry)
            if there is None:
                added.setdefault(entry.path + ("/" if isinstance(entry, Directory) else ""))
            elif not isinstance(entry, Directory):
                replaced.setdefault(evolve(there, nodes=()), []).extend(there.nodes)
    over = {there.path for there in replaced}
    return Override(
        directory=planned.directory,
        layer=planned.layer,
        replaced=tuple(evolve(there, nodes=tuple(names)) for there, names in replaced.items()),
        added=tuple(path for path in added if path not in over),
    )
