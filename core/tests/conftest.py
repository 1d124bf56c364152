"""A guest of 40 bytes for the tests with a real QEMU, and plans of invented overlays."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from xk8s.artifact_keys import artifact_key
from xk8s.build.artifacts.attempt import Resolved
from xk8s.build.layers.build import BuiltLayer, layer_key, layers_dir
from xk8s.cluster.inputs import ClusterInputs
from xk8s.machine.qemu.accelerator import decide
from xk8s.machine.qemu.command import MachineSpec, Memory, Sockets
from xk8s.overlay import Overlay
from xk8s.planning.plan import Plan
from xk8s.testing import plans, plugin
from xk8s.util.log import Record, add_sink, remove_sink
from xk8s.util.paths import cache_dir
from xk8s.util.processes import end, leftovers

CODE = bytes.fromhex(
    "be00000000"  # mov esi, text (patched below)
    "66baf803ac84c07403eeebf8"  # mov dx,0x3f8; next: lodsb; test; jz echo; out dx,al; jmp next
    "66bafd03eca80174f7"  # echo: mov dx,0x3fd; in al,dx; test al,1; jz echo
    "66baf803ecee"  # mov dx,0x3f8; in al,dx; out dx,al
    "a200002000ebea"  # mov [0x200000],al; jmp echo
)


def tiny_kernel() -> bytes:
    """A multiboot kernel: prints "hello" on ttyS0, then echoes what it reads there, and keeps
    the last byte at 2 MiB (see `test_qemu_migrate`).
    """
    load, magic, flags = 0x100000, 0x1BADB002, 0x00010000
    entry = load + 32
    text = entry + len(CODE)
    code = CODE[:1] + struct.pack("<I", text) + CODE[5:] + b"hello\n\0"
    end_ = load + 32 + len(code)
    checksum = -(magic + flags) & 0xFFFFFFFF
    header = struct.pack("<8I", magic, flags, checksum, load, load, end_, end_, entry)
    return (header + code).ljust(8192, b"\0")  # QEMU looks for the header in 8 KiB


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="xk8s-") as name:  # tmp_path may be too long
        directory = Path(name)
        yield directory
        left = leftovers(directory)
        assert end(left) == ()
        assert left == (), "a process was left behind"


@pytest.fixture
def spec(runtime: Path) -> MachineSpec:
    kernel = runtime / "kernel"
    kernel.write_bytes(tiny_kernel())
    return MachineSpec(
        name="vm-007",
        cpus=1,
        memory=Memory(size=32),
        accel=decide("tcg"),
        kernel=kernel,
        initrd=kernel,
        cmdline="",
        images=(),
        nics=(),
        sockets=Sockets.below(runtime, "vm-007"),
        console_log=runtime / "vm-007.log",
        pidfile=runtime / "vm-007.pid",
        # A network that leads nowhere: a tap takes a namespace.
        extra=(
            "-netdev",
            "hubport,id=net0,hubid=0",
            "-device",
            "virtio-net-pci,id=nic0,netdev=net0",
        ),
        spare_ports=0,
    )


@pytest.fixture
def records() -> Iterator[list[Record]]:
    """All log records of the test."""
    found: list[Record] = []

    class Everything:
        def wants(self, level: int, logger: str) -> bool:
            return True

        def write(self, record: Record) -> None:
            found.append(record)

    sink = Everything()
    add_sink(sink)
    yield found
    remove_sink(sink)


@pytest.fixture
def plan_of() -> Callable[..., Plan]:
    """Makes the plan of a cluster of one node (vm-001, or more), of a base that has nothing and one
    overlay ``t-one`` of the given hooks.
    """
    about = Overlay(summary="one", requires=(plans.BASE,))

    def make(
        name: str = "t", nodes: int = 1, sets: tuple[str, ...] = (), **hooks: Callable[..., object]
    ) -> Plan:
        plugins = {plans.BASE: plans.base(), "t-one": plugin(overlay=lambda: about, **hooks)}
        sets = (f"cluster.nodes={nodes}", "cluster.routers=0", *sets)
        return plans.plan_of((plans.BASE, "t-one"), *sets, name=name, plugins=plugins)

    return make


@pytest.fixture
def kit_of() -> Callable[[Plan], ClusterInputs]:
    """Makes the inputs of a plan as if all had been built: images have the keys of their layers."""

    def make(plan: Plan) -> ClusterInputs:
        resolved = {}
        for artifact in plan.artifacts:
            key = artifact_key(artifact)
            resolved[key] = Resolved(
                name=artifact.name, version=artifact.version, key=key,
                path=cache_dir().absolute() / "artifacts" / key / "tree", digest=key, provenance=(),
            )  # fmt: skip
        layers = {}
        for planned in plan.layers:
            key = layer_key(planned.layer, resolved)
            path = layers_dir(cache_dir()) / f"{key}.erofs"
            layers[planned.layer.name] = BuiltLayer(
                name=planned.layer.name, key=key, path=path, size=1
            )
        return ClusterInputs(plan=plan, accel=decide("tcg"), resolved=resolved, layers=layers)

    return make
