"""What local directories replace in the images of a cluster: known exactly once these are made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from attrs import define, field

from xk8s.build.layers.erofs_read import ErofsEntry, ErofsImage, open_image
from xk8s.overlay import Directory
from xk8s.planning.overrides import Override, Replaced, hides, leads_through
from xk8s.planning.plan import Plan


@define(eq=False)
class _Level:
    """An image that a directory lies over: a layer of an overlay, or the own one of a node."""

    image: ErofsImage
    overlay: str
    layer: str = ""
    node: str = ""
    _known: dict[str, ErofsEntry | None] = field(factory=dict, init=False)

    def find(self, path: str) -> ErofsEntry | None:
        """Find as `ErofsImage.find` does."""
        if path not in self._known:
            self._known[path] = self.image.find(path)
        return self._known[path]

    @property
    def whose(self) -> str:
        """Name the owner, for errors."""
        return f"{self.overlay} (layer {self.layer})" if self.layer else f"{self.node} itself"


def over_images(
    plan: Plan, layers: Mapping[str, Path], own: Mapping[str, Path]
) -> tuple[Override, ...]:
    """What each local directory of ``plan`` does. ``layers`` are images by the name of their
    layer, ``own`` those of the nodes by theirs.

    `PlanError` where a file or link would hide a directory of an image, or a directory what is
    none.
    """
    if not plan.directories:
        return ()
    with ExitStack() as stack:
        levels = {
            planned.layer.name: _Level(
                stack.enter_context(open_image(layers[planned.layer.name])),
                planned.overlay,
                layer=planned.layer.name,
            )
            for planned in plan.layers
        }
        nodes = {
            name: _Level(stack.enter_context(open_image(path)), "", node=name)
            for name, path in own.items()
        }
        return tuple(_over(plan, planned, levels, nodes) for planned in plan.directories)


def _over(
    plan: Plan, planned: Override, levels: Mapping[str, _Level], nodes: Mapping[str, _Level]
) -> Override:
    entries = next(
        planned_layer.layer.entries
        for planned_layer in plan.layers
        if planned_layer.layer.name == planned.layer
    )
    # Of a node's own files the plan knows whose they are; what it does not know is made at start.
    owners = {replaced.path: replaced.overlay for replaced in planned.replaced if replaced.nodes}
    replaced: dict[tuple[str, str, str], list[str]] = {}
    added: dict[str, None] = {}
    for node in plan.nodes:
        below = list(_below(plan.stack(node), planned.layer, levels, nodes[node.node.name]))
        for entry in entries:
            level = _check(planned.directory, entry.path, isinstance(entry, Directory), below)
            if level is None:
                slash = "/" if isinstance(entry, Directory) else ""
                added.setdefault(entry.path + slash)
            elif not isinstance(entry, Directory):
                overlay = level.overlay or owners.get(entry.path, "xk8s")
                replaced.setdefault((entry.path, overlay, level.layer), []).append(level.node)
    over = {path for path, _, _ in replaced}
    return Override(
        directory=planned.directory,
        layer=planned.layer,
        replaced=tuple(
            Replaced(path=path, overlay=overlay, layer=layer, nodes=() if layer else tuple(names))
            for (path, overlay, layer), names in replaced.items()
        ),
        added=tuple(path for path in added if path not in over),
    )


def _below(
    stack: Sequence[str], layer: str, levels: Mapping[str, _Level], own: _Level
) -> Iterator[_Level]:
    """What lies below a layer in the stack of a node, topmost first."""
    for name in reversed(stack[: stack.index(layer)]):
        yield levels.get(name, own)


def _check(directory: str, path: str, is_directory: bool, below: Sequence[_Level]) -> _Level | None:
    """Return where something exists at ``path`` already; None if nowhere."""
    parts = path.split("/")[1:]
    for count in range(1, len(parts) + is_directory):
        prefix = "/" + "/".join(parts[:count])
        if (there := _topmost(prefix, below)) and there[1].kind != "directory":
            raise leads_through(directory, path, prefix, there[0].whose, there[1].target)
    there = _topmost(path, below)
    if there is None:
        return None
    level, found = there
    if found.kind == "directory" and not is_directory:
        raise hides(directory, path, level.whose)
    return level


def _topmost(path: str, below: Sequence[_Level]) -> tuple[_Level, ErofsEntry] | None:
    return next(((level, found) for level in below if (found := level.find(path))), None)
