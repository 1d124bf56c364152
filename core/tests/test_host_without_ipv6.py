"""A machine whose kernel was started with ipv6.disable=1 (its file in /proc is hidden here: what
the kernel itself then refuses cannot be had).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from xk8s.cluster import prepare
from xk8s.cluster.prepare import Clock
from xk8s.cluster.state.booted import planned_boot
from xk8s.cluster.vms import launch
from xk8s.errors import HostError
from xk8s.machine.net import privileges
from xk8s.machine.qemu.accelerator import decide
from xk8s.planning.plan import Plan
from xk8s.progress import Silent
from xk8s.util.paths import runtime_dir, state_dir

PlanOf = Callable[..., Plan]


def lacking() -> str | None:
    try:
        privileges.check_tun()
        privileges.check_user_namespaces()
    except HostError as error:
        return str(error)
    return None


@pytest.fixture(autouse=True)
def without_ipv6(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(privileges, "_IF_INET6", tmp_path / "if_inet6")


@pytest.mark.skipif(lacking() is not None, reason=str(lacking()))
def test_the_networks_of_a_cluster_have_no_ipv6_address_mocked(
    own_places: Path, plan_of: PlanOf
) -> None:
    boot = planned_boot(plan_of("t"), decide("tcg"), {})
    for directory in (runtime_dir("t"), state_dir("t")):
        directory.mkdir(parents=True, mode=0o700)
    namespace = launch.networks(boot)
    try:
        told = namespace.run(["ip", "-o", "address", "show", "scope", "global"]).stdout.decode()
    finally:
        namespace.stop()
    families = {line.split()[2] for line in told.splitlines()}
    assert families == {"inet"}, told
    assert {line.split()[1] for line in told.splitlines()} >= {"net0", "net1"}


@pytest.mark.parametrize("family", ["ipv6", "dual"])
def test_a_cluster_with_ipv6_is_refused_before_anything_is_built_mocked(
    own_places: Path, plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    monkeypatch.setattr(prepare, "build", lambda *_: pytest.fail("something was built"))
    plan = plan_of("t", sets=(f"cluster.ip_family={family}",))
    with ExitStack() as held, pytest.raises(HostError, match=f"IP family is {family}") as caught:
        prepare.make_inputs(plan, Clock(Silent()), held)
    assert "--ip-family ipv4" in caught.value.hint
