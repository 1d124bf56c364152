"""The command line of a VM."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from attrs import evolve
from syrupy.assertion import SnapshotAssertion
from xk8s.machine.qemu.accelerator import PROGRAM, Accel
from xk8s.machine.qemu.command import (
    MAX_DISKS,
    MAX_IMAGES,
    Disk,
    DiskImage,
    MachineSpec,
    Memory,
    Sockets,
    TapNic,
    command,
)


def spec() -> MachineSpec:
    run = Path("/run/xk8s/default")
    return MachineSpec(
        name="vm-001",
        cpus=2,
        memory=Memory(size=1536),
        accel=Accel(name="tcg", args=("-accel", "tcg", "-cpu", "max,la57=off"), reason="test"),
        kernel=Path("/cache/vmlinuz"),
        initrd=Path("/cache/initrd"),
        cmdline="console=ttyS0 xk8s.layers=base,node quiet",
        images=(
            DiskImage(path=Path("/cache/base.erofs"), size=120 << 20),
            DiskImage(path=Path("/cache/a,b.erofs"), size=2 << 20),
        ),
        disks=(Disk(path=Path("/cache/a,b.tar"), serial="tar"),),
        nics=(
            TapNic(mac="02:00:00:00:00:01", fd=6),
            TapNic(mac="02:00:00:00:01:01", fd=7, mtu=9000),
        ),
        sockets=Sockets.below(run, "vm-001"),
        console_log=Path("/state/vm-001.log"),
        pidfile=run / "vm-001.pid",
        extra=("-object", "rng-random,id=rng0,filename=/dev/urandom"),
    )


def test_command(snapshot: SnapshotAssertion) -> None:
    assert command(spec()) == snapshot


def test_command_is_pure() -> None:
    assert command(spec()) == command(spec())


def test_memory_file_is_shared_or_private() -> None:
    shared = command(evolve(spec(), memory=Memory(size=512, file=Path("/ram,1"), share=True)))
    wanted = "memory-backend-file,id=pc.ram,mem-path=/ram,,1,share=on,size=512M"
    assert wanted in shared
    assert any(word.endswith("memory-backend=pc.ram") for word in shared)
    private = command(evolve(spec(), memory=Memory(size=512, file=Path("/ram"))))
    assert any("share=off" in word for word in private)
    assert not any("pc.ram" in word and "readonly" in word for word in (*shared, *private))
    saved = command(evolve(spec(), memory=Memory(size=512, file=Path("/ram"), saved=True)))
    assert any("share=off,readonly=on,rom=off" in word for word in saved)


def test_only_a_vm_whose_guest_has_booted_outlives_a_reboot() -> None:
    """A panic at boot must end the wait for it; a guest that reboots later comes back."""
    assert "-no-reboot" in command(spec())
    assert "-no-reboot" in command(evolve(spec(), incoming=True))  # a copy of a template
    assert "-no-reboot" not in command(evolve(spec(), incoming=True, booted=True))


def test_no_network_is_qemus_own() -> None:
    """It would make connections of guests by itself, in the host's namespace."""
    words = command(spec())
    networks = [words[at + 1] for at, word in enumerate(words) if word == "-netdev"]
    assert [network.partition(",")[0] for network in networks] == ["tap", "tap"]


def test_too_many_devices_are_an_error() -> None:
    disks = tuple(Disk(path=Path("/x"), serial=f"L{i:02}") for i in range(MAX_DISKS + 1))
    with pytest.raises(ValueError, match=f"{MAX_DISKS + 1} disks"):
        command(evolve(spec(), disks=disks))
    images = tuple(DiskImage(path=Path("/x"), size=2 << 20) for _ in range(MAX_IMAGES + 1))
    with pytest.raises(ValueError, match=f"{MAX_IMAGES + 1} layers"):
        command(evolve(spec(), images=images))
    nics = tuple(TapNic(mac="02:00:00:00:00:01", fd=3) for _ in range(6))
    with pytest.raises(ValueError, match="6 interfaces"):
        command(evolve(spec(), nics=nics))


@pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="QEMU is not installed")
def test_qemu_takes_the_machine(tmp_path: Path) -> None:
    """Every slot range used to its first and last: QEMU itself says whether devices fit."""
    count, images = 9, 17
    image = tmp_path / "image,with comma"
    image.write_bytes(bytes(2 << 20))
    full = evolve(
        spec(),
        kernel=image,
        initrd=image,
        images=tuple(DiskImage(path=image, size=2 << 20) for _ in range(images)),
        disks=tuple(Disk(path=image, serial=f"L{i:02}") for i in range(count)),
        nics=tuple(TapNic(mac=f"02:00:00:00:00:0{i}", fd=90 + i) for i in range(5)),
        sockets=Sockets.below(tmp_path, "vm-001"),
        console_log=tmp_path / "log",
        pidfile=tmp_path / "pid",
        spare_ports=6,
        memory=Memory(size=64),
    )
    # Taps take a namespace: ends of nothing in their place.
    argv = [
        re.sub(r"^tap,id=(net\d),fd=\d+$", r"hubport,id=\1,hubid=0", word) for word in command(full)
    ]
    # The kernel is a fake: without it the machine is made, and stops before its first instruction.
    for option in ("-kernel", "-initrd", "-append"):
        at = argv.index(option)
        del argv[at : at + 2]
    done = subprocess.run(
        [*argv, "-S", "-monitor", "stdio"],
        input="info pci\nquit\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("PCI device 1af4:") == images + count + 5 + 1
