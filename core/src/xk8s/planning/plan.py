"""The plan: a value that describes a whole cluster before anything is touched."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from xk8s.artifact_keys import artifact_key
from xk8s.context import Context
from xk8s.names.core_settings import ClusterSettings
from xk8s.names.discovery import Offer
from xk8s.names.registry import Registry
from xk8s.names.settings import Value
from xk8s.names.value_rules import LAYER_OF_NODES
from xk8s.overlay import (
    BootImage,
    Check,
    File,
    Forward,
    GuestNeeds,
    Layer,
    Node,
    Take,
    Volume,
)
from xk8s.planning.overrides import Override
from xk8s.planning.plan_json import boot_json, plan_json, take_json
from xk8s.planning.resolve import Choice
from xk8s.sources import Artifact
from xk8s.util.digest import UNDIGESTED, digest

NODE_LAYER = LAYER_OF_NODES
"""A node's own files, in names of layers."""


@frozen(kw_only=True)
class PlannedOverlay:
    """A selected overlay: its origin, and who asked for it."""

    offer: Offer
    summary: str
    asked_by: tuple[str, ...]


@frozen(kw_only=True)
class PlannedLayer:
    """A layer with the overlay that made it. ``digest`` covers everything that goes into it."""

    overlay: str
    layer: Layer
    digest: str


@frozen(kw_only=True)
class PlannedNode:
    """A VM: its layers (names, lowest first), own files (``owners``: whose, by path), and how it is
    started.
    """

    node: Node
    layers: tuple[str, ...]
    files: tuple[File, ...]
    kernel_args: tuple[str, ...]
    qemu_args: tuple[str, ...]
    forwards: tuple[Forward, ...]
    volumes: tuple[Volume, ...] = ()
    owners: Mapping[str, str] = field(factory=dict, repr=False, metadata=UNDIGESTED)


@frozen(kw_only=True)
class Plan:
    """A whole cluster. ``routes`` are prefixes behind the first router, as seen from outside.
    ``directories`` are the local ones, lowest first, with what they replace as far as the plan
    knows; their layers are the last of ``layers``. ``guest`` is what each overlay requires of
    guests. ``registry`` gives later stages access to the plugins' hooks that act (secrets, host
    files).
    """

    ctx: Context
    cluster: ClusterSettings
    overlays: tuple[PlannedOverlay, ...]
    choices: tuple[Choice, ...]
    settings: tuple[Value, ...]
    layers: tuple[PlannedLayer, ...]
    directories: tuple[Override, ...]
    nodes: tuple[PlannedNode, ...]
    boot: BootImage
    routes: tuple[str, ...]
    checks: tuple[Check, ...]
    guest: Mapping[str, GuestNeeds]
    registry: Registry = field(repr=False, eq=False)

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self.ctx.cluster

    @functools.cached_property
    def artifacts(self) -> tuple[Artifact, ...]:
        """Return the artifacts that must exist before layers can be built, each once, by name."""
        takes: list[Take] = [self.boot.kernel, self.boot.initramfs]
        for planned in self.layers:
            takes += [planned.layer.image] if planned.layer.image else []
            takes += [entry for entry in planned.layer.entries if isinstance(entry, Take)]
        found = {artifact_key(take.artifact): take.artifact for take in takes}
        return tuple(sorted(found.values(), key=lambda artifact: (artifact.name, artifact.version)))

    @functools.cached_property
    def digest(self) -> str:
        """Digest of everything that determines the cluster, except its name."""
        return digest(
            {
                "layers": [planned.digest for planned in self.layers],
                "boot": boot_json(self.boot),
                "nodes": self.nodes,
                "networks": self.ctx.networks,
                "routes": self.routes,
            }
        )

    def stack(self, node: PlannedNode) -> tuple[str, ...]:
        """Return the names of the layers that the guest stacks, lowest first: `NODE_LAYER` is the
        node's own files; only local directories are above them.
        """
        local = {directory.layer for directory in self.directories}
        below = tuple(name for name in node.layers if name not in local)
        return (*below, NODE_LAYER, *node.layers[len(below) :])

    def to_json(self) -> dict[str, object]:
        """Return the plan as JSON data; file contents and checks appear as digests and names."""
        return plan_json(self)


def layer_digest(layer: Layer) -> str:
    """Return the digest of everything that goes into a layer; artifacts count by their key."""
    entries: list[Any] = [
        take_json(entry) if isinstance(entry, Take) else entry for entry in layer.entries
    ]
    image = take_json(layer.image) if layer.image else None
    return digest({"name": layer.name, "entries": entries, "image": image})
