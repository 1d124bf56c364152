"""A real cluster for the tests of an overlay: what the fixture ``cluster`` is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from xk8s.cluster.state.record import list_clusters
from xk8s.testing.command import Xk8s

UP_SECONDS = 1800.0
"""Without KVM, and with everything to be built first, `up` takes long."""


@frozen(kw_only=True)
class LiveCluster:
    """A running cluster. ``xk8s`` is the command for it: ``cluster.xk8s("check")``."""

    name: str
    overlays: tuple[str, ...]
    xk8s: Xk8s

    def run(self, node: str, *argv: str, timeout: float = 120) -> str:
        """A command in a node; its stdout. AssertionError shows all of it when it fails."""
        return self.xk8s("exec", node, "--", *argv, timeout=timeout)


def live_cluster(
    overlays: Sequence[str], options: Mapping[str, Any], directory: Path
) -> Iterator[LiveCluster]:
    """Start it, and end it.

    State is the user's own, under a name that is always the same: that is how the snapshot of the
    previous run is found. The working directory is separate: no xk8s.toml counts.
    """
    name = cluster_name(overlays)
    xk8s = Xk8s(root=None, directory=directory, common=("--name", name))
    assert name not in list_clusters(), (
        f"a cluster {name!r} exists: another run of these tests uses it, or a killed one "
        f"left it; then: xk8s down --name {name}"
    )
    words = ["--nodes", str(options.get("nodes", 1)), "--routers", str(options.get("routers", 0))]
    for setting in options.get("sets", ()):
        words += ["-s", setting]
    try:
        xk8s("up", *overlays, *words, timeout=UP_SECONDS)
        yield LiveCluster(name=name, overlays=tuple(overlays), xk8s=xk8s)
    finally:
        xk8s("down", timeout=120)


def cluster_name(overlays: Sequence[str]) -> str:
    """A cluster of tests: the last overlay is the one that is looked at. Workers of pytest-xdist
    have one each.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    last = re.sub(r"[^a-z0-9]+", "-", f"{Path(overlays[-1]).name}-{worker}".lower()).strip("-")
    return f"test-{last}"[:32].strip("-")
