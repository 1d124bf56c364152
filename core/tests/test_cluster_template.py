"""Templates of nodes, as far as no VM is needed: which VMs share one, and what is whole."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from xk8s.cluster.inputs import ClusterInputs
from xk8s.cluster.state.booted import BootedCluster, boot_of
from xk8s.cluster.state.node_paths import image_path
from xk8s.cluster.vms import ram_template
from xk8s.errors import MachineError
from xk8s.machine.qemu.command import DiskImage, MachineSpec, room
from xk8s.names.request import Request
from xk8s.planning.make_plan import make_plan
from xk8s.planning.plan import Plan
from xk8s.progress import Silent
from xk8s.util import intact
from xk8s.util.paths import cache_dir

pytestmark = pytest.mark.usefixtures("own_places")


Made = Callable[..., tuple[ClusterInputs, BootedCluster]]


@pytest.fixture
def made(kit_of: Callable[[Plan], ClusterInputs]) -> Made:
    """What VMs of the plain base system are made of; images and kernel are not looked into."""

    def make(*sets: str) -> tuple[ClusterInputs, BootedCluster]:
        request = Request(overlays=("debian",), sets=("cluster.routers=0", *sets), environment={})
        plan = make_plan(request)
        inputs = kit_of(plan)
        own = [image_path(plan.name, planned.node.name) for planned in plan.nodes]
        for path in (*own, *(layer.path for layer in inputs.layers.values())):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"erofs")
        return inputs, boot_of(inputs)

    return make


def keys(inputs: ClusterInputs, boot: BootedCluster) -> list[str | None]:
    return [ram_template._key(inputs, boot, node) for node in boot.nodes]


def test_nodes_that_differ_by_name_only_share_one(made: Made) -> None:
    inputs, boot = made(
        "cluster.nodes=3",
        "cluster.memory=control-plane=512,worker=512",
        "cluster.cpus=control-plane=1,worker=1",
    )
    first, *others = keys(inputs, boot)
    assert first is not None
    assert set(others) == {first}


@pytest.mark.parametrize(
    "other",
    [
        "cluster.memory=control-plane=640",
        "cluster.cpus=control-plane=2",
        "cluster.kernel_args=quiet",
    ],
)
def test_another_machine_has_another(made: Made, other: str) -> None:
    plain = (
        "cluster.nodes=1",
        "cluster.memory=control-plane=512,worker=512",
        "cluster.cpus=control-plane=1,worker=1",
    )
    assert keys(*made(*plain))[0] != keys(*made(*plain, other))[0]


def test_another_kernel_or_qemu_has_another(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, boot = made("cluster.nodes=1")
    before = keys(inputs, boot)[0]
    rebuilt = {
        key: attrs.evolve(artifact, digest="rebuilt") for key, artifact in inputs.resolved.items()
    }
    assert keys(attrs.evolve(inputs, resolved=rebuilt), boot)[0] != before
    monkeypatch.setattr("xk8s.cluster.vms.machine_key.qemu_version", lambda: (99, 0, 0))
    assert keys(inputs, boot)[0] != before


def test_the_layers_and_the_cluster_make_no_difference(made: Made) -> None:
    inputs, boot = made("cluster.nodes=1")
    (node,) = boot.nodes
    other = attrs.evolve(boot, cluster="other", nodes=(attrs.evolve(node, disks=node.disks[:1]),))
    own = image_path("other", node.node.name)
    own.parent.mkdir(parents=True)
    own.write_bytes(b"erofs")
    assert keys(inputs, other) == keys(inputs, boot)


@pytest.mark.parametrize(
    ("words", "shares"),
    [
        ("-object rng-random,id=r,filename=/dev/urandom -device virtio-rng-pci,rng=r", True),
        ("-device isa-debug-exit,iobase=0xf4", False),
        ("-rtc base=localtime", False),
        ("-S", False),
    ],
)
def test_devices_of_its_own_are_found_by_a_scan_or_it_boots(
    made: Made, words: str, shares: bool
) -> None:
    plain = keys(*made("cluster.nodes=1"))
    own = keys(*made("cluster.nodes=1", f"cluster.qemu_args={words}"))
    assert own == (plain if shares else [None])


def test_more_images_than_the_usual_room_have_none() -> None:
    """A template's address space is that of a VM without any."""
    huge = DiskImage(path=Path("/x"), size=17 << 30)
    small = DiskImage(path=Path("/x"), size=300 << 20)
    assert room((small,) * 20) == room(()) == 16 << 10
    assert room((huge,)) == 32 << 10


def write(key: str, **changed: Any) -> Path:
    directory = ram_template.templates_dir(cache_dir()) / key
    directory.mkdir(parents=True)
    for name in ("ram", "state"):
        (directory / name).write_bytes(b"\0" * 8192 + name.encode())
    sums = {name: ram_template._sum(directory / name) for name in ("ram", "state")}
    (directory / ram_template.META).write_text(json.dumps({**sums, **changed}))
    return directory


def test_only_a_whole_one_is_used() -> None:
    assert ram_template._find("none") is None
    found = ram_template._find(write("whole").name)
    assert found is not None
    assert found.ram.read_bytes().endswith(b"ram")
    assert ram_template._find(write("damaged", ram="00000000").name) is None
    broken = write("broken")
    (broken / ram_template.META).write_text("{")
    assert ram_template._find("broken") is None
    (write("halved") / "state").unlink()
    assert ram_template._find("halved") is None


@pytest.mark.parametrize("damage", [lambda path: os.truncate(path, 4096), Path.unlink])
def test_one_that_was_cut_since_it_was_compared_is_not_used(
    damage: Callable[[Path], None],
) -> None:
    """Half of the zeros at its beginning: nothing that a sum without the size would notice."""
    directory = write("cut")
    os.truncate(directory / "ram", 64 << 10)
    (directory / ram_template.META).write_text(
        intact.seal({name: ram_template._sum(directory / name) for name in ("ram", "state")})
    )
    assert ram_template._find("cut") is not None
    assert (directory / intact.MARK).exists()
    damage(directory / "ram")
    assert ram_template._find("cut") is None
    assert ram_template._find("cut") is None


def test_one_is_read_once_per_start_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = ram_template.content_sum
    monkeypatch.setattr(
        ram_template, "content_sum", lambda path: (read.append(path.name), real(path))[1]
    )
    directory = write("once")
    read.clear()
    for _ in range(3):
        assert ram_template._find("once") is not None
    assert sorted(read) == ["ram", "state"]
    boot = tmp_path / "boot"
    boot.write_text("another")
    monkeypatch.setattr(intact, "BOOT_ID", boot)
    status, data = (directory / "ram").stat(), (directory / "ram").read_bytes()
    with (directory / "ram").open("r+b") as file:
        file.write(data[:-1] + b"?")
    os.utime(directory / "ram", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert ram_template._find("once") is None


@pytest.mark.parametrize("what", ["the base", "the user"])
def test_who_wants_none_gets_none(made: Made, what: str) -> None:
    inputs, boot = made("cluster.nodes=1", "cluster.template=" + str(what == "the base").lower())
    if what == "the base":
        plain = attrs.evolve(inputs.plan.boot, template=False)
        inputs = attrs.evolve(inputs, plan=attrs.evolve(inputs.plan, boot=plain))
    assert ram_template.get_templates(inputs, boot, Silent()) == {}


def test_two_sizes_of_a_role_are_made_beside_each_other_with_no_file_in_common(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, boot = made("cluster.nodes=3", "cluster.memory=vm-002=640")
    specs: list[MachineSpec] = []

    def spawn(spec: MachineSpec, **_: object) -> None:
        specs.append(spec)
        raise MachineError("not here")

    monkeypatch.setattr(ram_template.process, "spawn", spawn)
    assert ram_template.get_templates(inputs, boot, Silent()) == {}
    assert len(specs) == 3
    files = [(spec.memory.file, spec.console_log, spec.pidfile, spec.sockets.qmp) for spec in specs]
    for same in zip(*files, strict=True):
        assert len(set(same)) == 3
