"""Checks of CRI-O on the nodes."""

from __future__ import annotations

from collections.abc import Iterator

from xk8s.checks import CheckContext
from xk8s.context import Context
from xk8s.overlay import Check
from xk8s_images import cri

from xk8s_crio.runtime import RUNTIME


def checks(ctx: Context) -> Iterator[Check]:
    """CRI-O runs and listens on every node."""
    nodes = [node.name for node in ctx.by_role("control-plane", "worker")]

    def running(check: CheckContext) -> str:
        for node in nodes:
            check.ok(node, "systemctl", "is-active", RUNTIME.unit)
            check.ok(node, "test", "-S", cri.SOCKET)
        return f"active on each of {len(nodes)} nodes"

    yield Check(name="crio", run=running, timeout=300, explain=RUNTIME.explain)
