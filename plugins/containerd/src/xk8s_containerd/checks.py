"""Checks of containerd on the nodes."""

from __future__ import annotations

from collections.abc import Iterable

from xk8s.checks import CheckContext, NotYet
from xk8s.context import Context
from xk8s.overlay import Check
from xk8s_images import all_images

from xk8s_containerd.runtime import RUNTIME


def checks(ctx: Context) -> Iterable[Check]:
    """Every image is in the store of every node, by its reference and complete."""
    wanted = {image.ref for image in all_images(ctx)}
    nodes = [node.name for node in ctx.by_role("control-plane", "worker")]

    def images_there(check: CheckContext) -> str:
        for node in nodes:
            listing = check.ok(node, "ctr", "-n", "k8s.io", "images", "check", "-q")
            missing = wanted - set(listing.split())
            if missing:
                raise NotYet(f"{node} lacks {', '.join(sorted(missing))}")
        return f"{len(wanted)} images on each of {len(nodes)} nodes"

    yield Check(name="containerd", run=images_there, timeout=300, explain=RUNTIME.explain)
