"""A cluster that never gets ready: the log that matters, and VMs that can be looked into."""

from __future__ import annotations

import types

import pytest
from xk8s import hookimpl
from xk8s.checks import CheckContext, NotYet
from xk8s.cluster.handle import open_cluster
from xk8s.cluster.up import up
from xk8s.context import Context
from xk8s.errors import CheckFailed
from xk8s.names.registry import Registry
from xk8s.names.request import Request
from xk8s.overlay import Check, Overlay
from xk8s.planning.make_plan import make_plan
from xk8s.progress import Silent

from tests.conftest import Xk8s

pytestmark = pytest.mark.cluster


def never_ready() -> object:
    """An overlay whose check waits for a file that nobody makes."""

    def overlay() -> Overlay:
        return Overlay(summary="never ready", requires=("base",))

    def checks(ctx: Context) -> list[Check]:
        def run(context: CheckContext) -> str:
            return context.ok("vm-001", "ls", "/never")

        def explain(context: CheckContext) -> str:
            return context.ok("vm-001", "journalctl", "--no-pager", "-n", "5")

        return [Check(name="never", run=run, timeout=3.0, explain=explain)]

    return types.SimpleNamespace(xk8s_overlay=hookimpl(overlay), xk8s_checks=hookimpl(checks))


def test_a_check_that_never_passes(xk8s: Xk8s, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in xk8s.environment.items():
        monkeypatch.setenv(name, value)
    request = Request(
        overlays=("debian", "t-never"),
        name="never",
        sets=("cluster.nodes=1", "cluster.routers=0", "cluster.memory=control-plane=384"),
    )
    plan = make_plan(request, Registry({"t-never": never_ready()}))
    with pytest.raises(CheckFailed, match="not met after 3 s; last seen: vm-001: ls /never") as at:
        up(plan, Silent())
    assert "vm-001" in at.value.log
    # It is there to be looked into, says that it failed, and was not saved as a good one.
    cluster = open_cluster("never")
    assert cluster.record.phase == "failed"
    assert cluster.record.snapshot == ""
    assert cluster.run("vm-001", ["hostname"]).stdout == b"vm-001\n"
    with pytest.raises(NotYet):
        cluster.checks.ok("vm-001", "false")
    xk8s("--name", "never", "down")
    assert xk8s.left() == []
