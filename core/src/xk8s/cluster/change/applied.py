"""What an apply did, or would do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from attrs import frozen

from xk8s.cluster.handle import Cluster


@frozen(kw_only=True)
class NodeChange:
    """Changes of one node: ``layers`` are those that differ, ``files`` counts paths, ``size`` is in
    bytes; ``restarted`` and ``stopped`` are units.
    """

    node: str
    layers: tuple[str, ...]
    files: tuple[str, ...]
    size: int
    restarted: tuple[str, ...]
    stopped: tuple[str, ...]


@frozen(kw_only=True)
class Applied:
    """What an apply did, or with ``dry_run`` would do. ``overlays`` are those that say something
    else than before, ``checks`` those that were run, ``seconds`` per stage. ``skipped`` nodes did
    not run, ``rebooted`` ones had lost what was applied before.
    """

    cluster: Cluster
    overlays: tuple[str, ...]
    nodes: tuple[NodeChange, ...]
    checks: tuple[str, ...]
    seconds: Mapping[str, float]
    skipped: tuple[str, ...] = ()
    rebooted: tuple[str, ...] = ()
    dry_run: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return data for programs."""
        return {
            "name": self.cluster.name,
            "phase": self.cluster.record.phase,
            "overlays": list(self.overlays),
            "nodes": [attrs.asdict(node) for node in self.nodes],
            "checks": list(self.checks),
            "seconds": dict(self.seconds),
            "skipped": list(self.skipped),
            "rebooted": list(self.rebooted),
            "dry_run": self.dry_run,
        }
