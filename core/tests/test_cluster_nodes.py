"""Single VMs that are paused, killed and started, with real QEMUs that have a guest of 40 bytes;
and what is known of nodes that do not take part, or have rebooted.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs
import pytest
from xk8s.build.layers.node_layer import make_node_image
from xk8s.cli import app
from xk8s.cluster.absent import absence_text, without
from xk8s.cluster.change import lifecycle
from xk8s.cluster.change.reboots import booted_files, rebooted
from xk8s.cluster.handle import Cluster, open_cluster, phase_of
from xk8s.cluster.inputs import ClusterInputs
from xk8s.cluster.prepare import Clock
from xk8s.cluster.resume import vm_states
from xk8s.cluster.state.booted import BootedCluster, boot_of
from xk8s.cluster.state.guest_files import GuestFiles, guest_files_of
from xk8s.cluster.state.node_paths import image_path, pause_mark
from xk8s.cluster.state.record import locked
from xk8s.errors import AbsentError, MachineError, StateError
from xk8s.machine.qemu.command import MachineSpec
from xk8s.machine.qemu.qmp import Qmp
from xk8s.overlay import Check, File
from xk8s.planning.plan import Plan
from xk8s.progress import Silent
from xk8s.util.processes import end

from core.tests.test_cluster_resume import (
    echo,
    killed,
    lacking,
    places,
    power_on_tiny,
    qemus,
    start,
)

__all__ = ["places", "start"]

pytestmark = [
    pytest.mark.skipif(lacking() is not None, reason=str(lacking())),
    pytest.mark.usefixtures("own_places"),
]
PlanOf = Callable[..., Plan]
Start = Callable[..., Cluster]
KitOf = Callable[[Plan], ClusterInputs]


def run(*words: str) -> int:
    return app.run(["--name", "t", "--quiet", *words])


def states() -> dict[str, str]:
    return vm_states(open_cluster("t").record)


@pytest.fixture
def boot_again(
    spec: MachineSpec, kit_of: KitOf, plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """Start a dead node, up to the moment at which the others are told."""
    power_on_tiny(monkeypatch, spec.kernel)
    monkeypatch.setattr(lifecycle, "refuse", lambda *_: None)

    def boot(node: str) -> None:
        inputs = kit_of(plan_of("t", nodes=2))
        cluster = Cluster(open_cluster("t").record, inputs.plan)
        lifecycle._boot(cluster, inputs, [node], Clock(Silent()))

    return boot


# --- pause, resume, kill ----------------------------------------------------------------


def test_a_paused_node_is_named_at_once_and_others_are_reached(
    start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    start()
    for _ in range(2):  # pausing one that is paused is fine
        assert run("node", "pause", "vm-002") == 0
    assert states() == {"vm-001": "running", "vm-002": "paused"}
    echo(open_cluster("t"), "vm-001")
    began = time.monotonic()
    assert run("exec", "-n", "vm-002", "true") == MachineError.exit_code
    assert time.monotonic() - began < 9, "the agent was waited for"
    assert "vm-002 is paused: xk8s node resume vm-002 --name t" in capfd.readouterr().err
    assert open_cluster("t").absent == {"vm-002": "paused"}
    assert run("snapshot", "save", "x") == StateError.exit_code
    error = capfd.readouterr().err
    assert "cannot be saved: vm-002 is paused" in error
    assert "do: xk8s node resume vm-002 --name t" in error


def test_a_node_that_others_let_run_is_not_taken_for_a_paused_one(start: Start) -> None:
    """The mark alone says nothing: a command that was killed may have been finished since."""
    cluster = start()
    pause_mark("t", "vm-001").touch()
    assert cluster.absent == {}
    cluster.check_present()


def test_a_node_with_a_volume_on_a_full_disk_is_named_mocked(
    start: Start, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU's status is made up: see test_full_disk for a disk that is full."""
    cluster = start()
    assert cluster.absent == {}
    monkeypatch.setattr(Qmp, "status", lambda _: "io-error")
    assert cluster.absent == dict.fromkeys(("vm-001", "vm-002"), "out of disk space")
    assert phase_of(cluster.record, states()) == "paused"
    assert run("exec", "-n", "vm-001", "true") == MachineError.exit_code
    error = capfd.readouterr().err
    assert (
        f"vm-001 is out of disk space: free some space where {cluster.state_dir} is, then" in error
    )
    assert "xk8s node resume vm-001 --name t" in error


def test_a_node_of_a_record_only_is_no_node(start: Start) -> None:
    start()
    for verb in ("pause", "resume", "kill", "start", "reboot"):
        assert run("node", verb, "vm-007") == StateError.exit_code
    assert states() == {"vm-001": "running", "vm-002": "running"}


def test_a_killed_node_is_dead_and_its_cluster_is_not(
    start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    first = start()
    assert run("node", "pause", "vm-002") == 0
    for _ in range(2):
        assert run("node", "kill", "vm-002") == 0
    assert states() == {"vm-001": "running", "vm-002": "dead"}
    assert not pause_mark("t", "vm-002").exists()
    for verb in ("pause", "resume"):
        assert run("node", verb, "vm-002") == MachineError.exit_code
        assert "vm-002 is dead: xk8s node start vm-002 --name t" in capfd.readouterr().err
    assert run("exec", "-n", "vm-002", "true") == MachineError.exit_code
    error = capfd.readouterr().err
    assert "vm-002 is dead: xk8s node start vm-002 --name t" in error
    assert "hello" not in error, "the console is no reason"
    cluster = open_cluster("t")
    status = first.as_of(cluster.record).status()
    assert status["phase"] == "running"
    assert [(node["state"], node["running"]) for node in status["nodes"]] == [
        ("running", True), ("dead", False),
    ]  # fmt: skip
    assert phase_of(cluster.record, {"vm-001": "paused", "vm-002": "dead"}) == "paused"


# --- start ------------------------------------------------------------------------------


def test_a_dead_node_boots_again_with_its_port(
    start: Start, boot_again: Callable[[str], None]
) -> None:
    before = start().record
    end([before.node("vm-002").process], grace=0)
    boot_again("vm-002")
    cluster = open_cluster("t")
    assert vm_states(cluster.record) == {"vm-001": "running", "vm-002": "running"}
    assert cluster.record.node("vm-001") == before.node("vm-001")
    assert cluster.record.node("vm-002").forwards.keys() == {"api"}
    assert cluster.record.unfinished is None
    echo(cluster, "vm-002")


def test_a_killed_start_leaves_the_node_dead_and_can_be_repeated_mocked(
    start: Start, boot_again: Callable[[str], None]
) -> None:
    end([start().record.node("vm-002").process], grace=0)
    step, more = 0, True
    while more:
        step += 1
        more = killed(lambda: boot_again("vm-002"), step)
        cluster = open_cluster("t")
        assert cluster.record.unfinished is None
        assert [node.name for node in cluster.record.nodes] == ["vm-001", "vm-002"]
        assert qemus() == {node.process for node in cluster.record.nodes if node.process.alive}, (
            "a QEMU that nobody knows"
        )
        echo(cluster, "vm-001")
        if more and not cluster.alive("vm-002"):
            continue
        echo(cluster, "vm-002")
        end([cluster.record.node("vm-002").process], grace=0)
    assert step > 3
    with locked("t"):
        boot_again("vm-002")
    echo(open_cluster("t"), "vm-002")


# --- what is seen without some ----------------------------------------------------------


def test_overlays_see_the_cluster_without_absent_nodes(plan_of: PlanOf) -> None:
    plan = plan_of(
        nodes=3,
        checks=lambda ctx: [
            Check(name=f"on {node.name}", run=lambda _: "ok") for node in ctx.nodes
        ],
    )
    seen = without(plan, ["vm-002"])
    assert [node.name for node in seen.ctx.nodes] == ["vm-001", "vm-003"]
    assert [check.name for check in seen.checks] == ["on vm-001", "on vm-003"]
    assert without(plan, []) is plan


def test_the_only_control_plane_is_missed(plan_of: PlanOf) -> None:
    """Without it nothing works: its checks must fail, and name it."""
    seen = without(plan_of(nodes=2), ["vm-001", "vm-002"])
    assert [node.name for node in seen.ctx.nodes] == ["vm-001"]


def test_the_remedy_names_the_cluster_unless_it_is_the_usual_one() -> None:
    assert absence_text("xk8s", "vm-002", "dead") == "vm-002 is dead: xk8s node start vm-002"
    assert absence_text("a", "vm-1", "paused") == "vm-1 is paused: xk8s node resume vm-1 --name a"


def test_an_error_of_an_absent_node_is_one_of_its_machine() -> None:
    assert issubclass(AbsentError, MachineError)


# --- guests that rebooted ---------------------------------------------------------------


@pytest.fixture
def written(plan_of: PlanOf, kit_of: KitOf) -> tuple[BootedCluster, GuestFiles, list[File]]:
    """What is written down of a node whose own layer has two files."""
    inputs = kit_of(plan_of("t"))
    files = [File(path="/etc/one", data=b"1"), File(path="/usr/bin/two", data=b"2", mode=0o755)]
    image = image_path("t", "vm-001")
    image.parent.mkdir(parents=True)
    make_node_image(files, image)
    boot = boot_of(inputs)
    now = guest_files_of(inputs, "k", {"vm-001": files})
    node = attrs.evolve(now.nodes["vm-001"], boot="first")
    own = {file.path: node.files[file.path] for file in files}
    return boot, attrs.evolve(now, nodes={"vm-001": attrs.evolve(node, files=own)}), files


def test_what_a_node_booted_from_is_read_from_its_image(
    written: tuple[BootedCluster, GuestFiles, list[File]],
) -> None:
    boot, now, _ = written
    found = booted_files(boot.nodes[0], image_path("t", "vm-001"))
    assert found == attrs.evolve(now.nodes["vm-001"], boot="")


def test_a_reboot_that_lost_nothing_is_not_told(
    written: tuple[BootedCluster, GuestFiles, list[File]],
) -> None:
    boot, now, _ = written
    assert rebooted(boot, now, {"vm-001": "first"}) == ((), now)
    names, known = rebooted(boot, now, {"vm-001": "second"})
    assert names == ()
    assert known.nodes["vm-001"].boot == "second"
    assert rebooted(boot, now, {}) == ((), now), "it did not answer"


def test_a_guest_that_rebooted_lacks_what_was_applied(
    written: tuple[BootedCluster, GuestFiles, list[File]],
) -> None:
    boot, now, _ = written
    node = now.nodes["vm-001"]
    applied = attrs.evolve(
        now,
        nodes={
            "vm-001": attrs.evolve(
                node,
                stack=(("new", "k1"), *node.stack),
                files={**node.files, "/etc/one": "644:other"},
                units=("one.service",),
            )
        },
    )
    names, known = rebooted(boot, applied, {"vm-001": "second"})
    assert names == ("vm-001",)
    assert known.nodes["vm-001"] == attrs.evolve(node, boot="second")
    assert rebooted(boot, applied, {"vm-001": "first"}) == ((), applied)


def test_a_file_of_an_earlier_version_tells_no_reboot(
    written: tuple[BootedCluster, GuestFiles, list[File]],
) -> None:
    boot, now, _ = written
    old = attrs.evolve(now, nodes={"vm-001": attrs.evolve(now.nodes["vm-001"], boot="")})
    assert rebooted(boot, old, {"vm-001": "second"}) == ((), old)
