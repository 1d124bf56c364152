"""Volumes of nodes: what is asked for, what the VM gets, and the files."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from xk8s import hookimpl
from xk8s.cluster.change.needs_reboot import refuse_plan
from xk8s.cluster.state.booted import BootedCluster, planned_boot
from xk8s.cluster.state.node_paths import (
    VOLUMES,
    remove_node_files,
    remove_volumes,
    volume_path,
    volumes_in,
)
from xk8s.cluster.vms import launch, ram_template, volumes
from xk8s.errors import HostError, PlanError, PluginError
from xk8s.machine.qemu.accelerator import decide
from xk8s.machine.qemu.command import Memory, command
from xk8s.overlay import BootOptions, Overlay, Volume
from xk8s.planning.plan import Plan
from xk8s.planning.plan_json import node_json
from xk8s.testing import plans
from xk8s.util import host_programs
from xk8s.util.paths import state_dir

PlanOf = Callable[..., Plan]
DATA = Volume(name="data", path="/var/lib/data", size=64)
pytestmark = pytest.mark.usefixtures("own_places")


def boot_of(plan: Plan) -> BootedCluster:
    return planned_boot(plan, decide("tcg"), {})


def plan_with(plan_of: PlanOf, *given: Volume, nodes: int = 1) -> Plan:
    return plan_of("t", nodes=nodes, boot=lambda: BootOptions(volumes=given))


# --- what is asked for ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (attrs.evolve(DATA, name="Data"), "volume 'Data'"),
        (attrs.evolve(DATA, name="a" * 17), "1 to 16"),
        (attrs.evolve(DATA, name=""), "1 to 16"),
        (attrs.evolve(DATA, path="var"), "'var' is not an absolute, plain path"),
        (attrs.evolve(DATA, path="/a,b"), "not an absolute, plain path"),
        (attrs.evolve(DATA, path="/a:b"), "not an absolute, plain path"),
        (attrs.evolve(DATA, path="/a/../b"), "not an absolute, plain path"),
        (attrs.evolve(DATA, path="/a b"), "not an absolute, plain path"),
        (attrs.evolve(DATA, path="/"), "not an absolute, plain path"),
        (attrs.evolve(DATA, size=31), "31 MiB"),
        (attrs.evolve(DATA, size=5 << 20), "MiB"),
    ],
)
def test_what_no_volume_can_be_is_a_mistake_of_its_plugin(
    plan_of: PlanOf, volume: Volume, message: str
) -> None:
    with pytest.raises(PluginError) as caught:
        plan_with(plan_of, volume)
    assert message in f"{caught.value} {caught.value.log}"


@pytest.mark.parametrize("same", ["name", "path"])
def test_two_overlays_cannot_have_the_same_volume(same: str) -> None:
    class Hooks:
        def __init__(self, volume: Volume) -> None:
            self.volume = volume

        @hookimpl
        def xk8s_overlay(self) -> Overlay:
            return Overlay(summary="s", requires=(plans.BASE,))

        @hookimpl
        def xk8s_boot(self) -> BootOptions:
            return BootOptions(volumes=(self.volume,))

    other = attrs.evolve(
        Volume(name="other", path="/other", size=64), **{same: getattr(DATA, same)}
    )
    plugins = {plans.BASE: plans.base(), "t-one": Hooks(DATA), "t-two": Hooks(other)}
    with pytest.raises(PlanError, match="t-one and t-two both have a volume"):
        plans.plan_of((plans.BASE, "t-one", "t-two"), name="t", plugins=plugins)


def test_a_plan_has_them(plan_of: PlanOf) -> None:
    plan = plan_with(plan_of, DATA)
    assert node_json(plan.nodes[0])["volumes"] == [
        {"name": "data", "path": "/var/lib/data", "size": 64}
    ]
    assert plan.digest != plan_with(plan_of).digest


# --- what the VM gets -------------------------------------------------------------------


def test_the_vm_has_a_disk_and_its_guest_is_told_where_it_belongs(plan_of: PlanOf) -> None:
    boot = boot_of(plan_with(plan_of, DATA, Volume(name="more", path="/more", size=32)))
    (booted,) = boot.nodes
    spec = launch.spec(boot, booted, memory=Memory(size=128), layers=())
    assert "xk8s.volumes=data:/var/lib/data,more:/more" in spec.cmdline.split()
    words = command(spec)
    disks = [word for word in words if word.startswith("virtio-blk-pci")]
    assert [disk.partition("serial=")[2].partition(",")[0] for disk in disks] == ["data", "more"]
    assert str(volume_path("t", "vm-001", "data")) in " ".join(words)
    # A template is of many nodes, and has none.
    bare = ram_template._bare(spec)
    assert bare.disks == ()
    assert "xk8s.volumes" not in bare.cmdline


# --- the files --------------------------------------------------------------------------


def content(path: Path) -> str:
    argv = ["debugfs", "-R", "ls -p /", str(path)]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_a_volume_is_private_sparse_and_made_once(plan_of: PlanOf) -> None:
    boot = boot_of(plan_with(plan_of, DATA, nodes=2))
    state_dir("t").mkdir(parents=True, mode=0o700)
    volumes.make_volumes(boot)
    paths = [volume_path("t", name, "data") for name in ("vm-001", "vm-002")]
    for path in paths:
        status = path.stat()
        assert (status.st_mode & 0o777, status.st_size) == (0o600, 64 << 20)
        assert status.st_blocks * 512 < 4 << 20
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert "lost+found" in content(path)
    before = paths[0].stat().st_mtime_ns
    paths[1].unlink()
    volumes.make_volumes(boot)
    assert paths[0].stat().st_mtime_ns == before
    assert paths[1].exists()


def test_it_stays_when_its_node_comes_back_and_goes_when_that_is_removed(plan_of: PlanOf) -> None:
    boot = boot_of(plan_with(plan_of, DATA))
    state_dir("t").mkdir(parents=True, mode=0o700)
    volumes.make_volumes(boot)
    remove_node_files("t", "vm-001")
    assert volume_path("t", "vm-001", "data").exists()
    remove_volumes("t", "vm-001")
    assert not volume_path("t", "vm-001", "data").exists()


def test_a_copy_has_the_same_content(plan_of: PlanOf, tmp_path: Path) -> None:
    boot = boot_of(plan_with(plan_of, DATA))
    state_dir("t").mkdir(parents=True, mode=0o700)
    volumes.make_volumes(boot)
    source = volume_path("t", "vm-001", "data")
    volumes.copy_volumes(state_dir("t") / VOLUMES, tmp_path, boot.nodes[0].node.name)
    (copy,) = volumes_in(tmp_path)
    assert copy.name == source.name
    assert copy.read_bytes() == source.read_bytes()
    assert copy.stat().st_blocks <= source.stat().st_blocks
    assert 0 < volumes.size_of_volumes("t") < 4 << 20


def test_what_cannot_be_made_is_named_and_leaves_nothing(
    plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot = boot_of(plan_with(plan_of, DATA))
    state_dir("t").mkdir(parents=True, mode=0o700)
    monkeypatch.setattr(volumes, "_MKFS", ("false",))
    with pytest.raises(HostError, match="a volume") as caught:
        volumes.make_volumes(boot)
    assert caught.value.where == str(volume_path("t", "vm-001", "data"))
    assert [*volume_path("t", "x", "x").parent.iterdir()] == []
    assert "mkfs.ext4" in {program.name for program in host_programs.PROGRAMS}


def test_more_or_other_volumes_take_a_boot(plan_of: PlanOf) -> None:
    boot = boot_of(plan_with(plan_of))
    with pytest.raises(PlanError, match="volumes of vm-001 changed"):
        refuse_plan(boot, plan_with(plan_of, DATA))
