"""The command line of one VM, from a value: nothing is run or looked up here.

PCI slots are given explicitly, so that a device keeps its place when another one is added:
a saved machine state fits only the same machine.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from attrs import frozen

from xk8s.machine.qemu.accelerator import PROGRAM, Accel

AGENT_PORT = "org.qemu.guest_agent.0"
CONSOLE_PORT = "xk8s.shell"
SESSION_PORT = "xk8s.session"
SESSIONS = 8
"""So many programs of a guest may be used at once (`xk8s exec`, `cp`, `ssh`), one on each port."""

_SERIAL_SLOT, _NIC_SLOT, _IMAGE_SLOT, _DISK_SLOT, _PORT_SLOT = 0x02, 0x03, 0x08, 0x16, 0x18
_FUNCTIONS = 8
_MAX_NICS = _IMAGE_SLOT - _NIC_SLOT
MAX_IMAGES = (_DISK_SLOT - _IMAGE_SLOT) * _FUNCTIONS
MAX_DISKS = (_PORT_SLOT - _DISK_SLOT) * _FUNCTIONS
MAX_SPARE_PORTS = 6

_GAP = 4 << 20
_ROOM = 16 << 30

GIVEN = "opt/org.xk8s/node"
"""Name of the firmware configuration item with a copy's own arguments (docs/reference/boot.md)."""


@frozen(kw_only=True)
class DiskImage:
    """A file system image that the guest has in its address space (virtio-pmem), read-only:
    /dev/pmem0, pmem1 … in their order. ``size`` is that of the file in bytes, a multiple of 2 MiB
    (of which Linux maps such memory).
    """

    path: Path
    size: int


@frozen(kw_only=True)
class Disk:
    """A raw image that the guest writes to, a virtio disk with that serial (≤ 20 bytes)."""

    path: Path
    serial: str


@frozen(kw_only=True)
class TapNic:
    """An interface on a tap whose descriptor ``fd`` QEMU inherits."""

    mac: str
    fd: int
    mtu: int = 1500


@frozen(kw_only=True)
class Memory:
    """RAM of ``size`` MiB; in ``file`` when given: written back when ``share``, else private to
    this VM (copy-on-write: many VMs may start from one file). ``saved``: the file has what was
    saved, and is opened for reading alone.
    """

    size: int
    file: Path | None = None
    share: bool = False
    saved: bool = False


@frozen(kw_only=True)
class Sockets:
    """The unix sockets of a VM: QMP, guest agent, kernel console (ttyS0), shell (hvc0), and those
    of sessions.
    """

    qmp: Path
    agent: Path
    console: Path
    shell: Path
    sessions: tuple[Path, ...]

    @property
    def all(self) -> tuple[Path, ...]:
        """Every one of them."""
        return (self.qmp, self.agent, self.console, self.shell, *self.sessions)

    @classmethod
    def below(cls, runtime_dir: Path, name: str) -> Sockets:
        """Their usual places."""
        return cls(
            qmp=runtime_dir / f"{name}.qmp",
            agent=runtime_dir / f"{name}.agent",
            console=runtime_dir / f"{name}.console",
            shell=runtime_dir / f"{name}.shell",
            sessions=tuple(runtime_dir / f"{name}.s{number}" for number in range(SESSIONS)),
        )


@frozen(kw_only=True)
class MachineSpec:
    """One VM. ``nics`` in the order of the guest's eth0, eth1 …; ``images`` in that of pmem0,
    pmem1 …, ``disks`` in that of vda, vdb …; ``spare_ports`` are slots for hot-plug, named rp0,
    rp1 …; ``extra`` are argv words of overlays. ``incoming``: wait for a saved state instead of
    booting; ``given`` is for the guest to read then. ``booted``: the guest of that state has booted
    already.
    """

    name: str
    cpus: int
    memory: Memory
    accel: Accel
    kernel: Path
    initrd: Path
    cmdline: str
    images: tuple[DiskImage, ...]
    nics: tuple[TapNic, ...]
    sockets: Sockets
    console_log: Path
    pidfile: Path
    disks: tuple[Disk, ...] = ()
    extra: tuple[str, ...] = ()
    spare_ports: int = 4
    incoming: bool = False
    booted: bool = False
    given: str = ""
    program: str = PROGRAM

    @property
    def fds(self) -> tuple[int, ...]:
        """Descriptors that QEMU must inherit."""
        return tuple(nic.fd for nic in self.nics)


def command(spec: MachineSpec) -> list[str]:
    """Return the argv of the VM. Raises ValueError when it has more devices than slots."""
    if len(spec.images) > MAX_IMAGES:
        raise ValueError(f"{spec.name}: {len(spec.images)} layers; a VM takes {MAX_IMAGES}")
    if len(spec.disks) > MAX_DISKS:
        raise ValueError(f"{spec.name}: {len(spec.disks)} disks; a VM takes {MAX_DISKS}")
    if len(spec.nics) > _MAX_NICS:
        raise ValueError(f"{spec.name}: {len(spec.nics)} interfaces; a VM takes {_MAX_NICS}")
    if spec.spare_ports > MAX_SPARE_PORTS:
        raise ValueError(f"{spec.name}: {spec.spare_ports} ports; a VM takes {MAX_SPARE_PORTS}")
    return [spec.program, *_machine(spec), *_sockets(spec), *_nics(spec), *_images(spec),
            *_disks(spec), *_ports(spec), *spec.extra]  # fmt: skip


def reference_command(accel: Accel) -> list[str]:
    """Return the command line of a made-up VM that has one device of each kind. It changes
    whenever `command` builds another machine, which no saved state would fit.
    """
    place = Path("/reference")
    spec = MachineSpec(
        name="reference",
        cpus=1,
        memory=Memory(size=256, file=place / "ram", share=True),
        accel=accel,
        kernel=place / "kernel",
        initrd=place / "initrd",
        cmdline="",
        images=(DiskImage(path=place / "image", size=2 << 20),),
        nics=(TapNic(mac="02:00:00:00:00:01", fd=3),),
        sockets=Sockets.below(place, "reference"),
        console_log=place / "console.log",
        pidfile=place / "pid",
        disks=(Disk(path=place / "disk", serial="disk"),),
    )
    return command(spec)


def product_uuid(name: str) -> uuid.UUID:
    """Return the DMI product UUID of the VM of that name: a node keeps it from one start to the
    next.
    """
    return uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.xk8s.invalid")


def room(images: Iterable[DiskImage]) -> int:
    """MiB of address space for images and what lies between them for their alignment: the same for
    all but huge ones, so that most VMs of a size are alike.
    """
    needed = sum(image.size + _GAP for image in images)
    return max(1, -(-needed // _ROOM)) * (_ROOM >> 20)


def _machine(spec: MachineSpec) -> Iterator[str]:
    # Without the parts of a PC that no guest here uses: the kernel would probe each of them.
    machine = "q35,smm=off,vmport=off,usb=off,graphics=off,i8042=off,sata=off,smbus=off"
    memory = spec.memory
    if memory.file is not None:
        machine += ",memory-backend=pc.ram"
    yield from ("-name", f"{_quoted(spec.name)},debug-threads=on")
    yield from ("-uuid", str(product_uuid(spec.name)))
    yield from ("-no-user-config", "-nodefaults", "-display", "none")
    if not spec.booted:
        # A panic while it boots ends QEMU, and so the wait for it: see `Qmp.survive_reboots`.
        yield "-no-reboot"
    yield from ("-machine", machine, *spec.accel.args, "-smp", str(spec.cpus))
    yield from ("-m", f"size={memory.size}M,maxmem={memory.size + room(spec.images)}M")
    if memory.file is not None:
        share = "share=on" if memory.share else "share=off"
        if memory.saved:
            share += ",readonly=on,rom=off"  # the view of it stays writable
        path = _quoted(memory.file)
        yield "-object"
        yield f"memory-backend-file,id=pc.ram,mem-path={path},{share},size={memory.size}M"
    yield from ("-kernel", str(spec.kernel), "-initrd", str(spec.initrd), "-append", spec.cmdline)
    yield from ("-pidfile", str(spec.pidfile))
    if spec.incoming:
        yield from ("-incoming", "defer")
    if spec.given:
        yield from ("-fw_cfg", f"name={GIVEN},string={_quoted(spec.given)}")
    # A restored guest learns that it is a copy, and reseeds its random numbers.
    yield from ("-device", "vmgenid,guid=auto")


def _sockets(spec: MachineSpec) -> Iterator[str]:
    sockets = spec.sockets
    log = f",logfile={_quoted(spec.console_log)},logappend=on"
    sessions = [(f"session{number}", path) for number, path in enumerate(sockets.sessions)]
    for name, path, more in (
        ("qmp0", sockets.qmp, ""),
        ("console0", sockets.console, log),
        ("shell0", sockets.shell, ""),
        ("agent0", sockets.agent, ""),
        *((name, path, "") for name, path in sessions),
    ):
        yield "-chardev"
        yield f"socket,id={name},path={_quoted(path)},server=on,wait=off{more}"
    yield from ("-mon", "chardev=qmp0,mode=control", "-serial", "chardev:console0")
    yield from ("-device", f"virtio-serial-pci,id=serial0,addr={_SERIAL_SLOT:#x},max_ports=16")
    yield from ("-device", f"virtconsole,bus=serial0.0,nr=0,chardev=shell0,name={CONSOLE_PORT}")
    yield from ("-device", f"virtserialport,bus=serial0.0,nr=1,chardev=agent0,name={AGENT_PORT}")
    for number, (name, _) in enumerate(sessions):
        yield "-device"
        yield (
            f"virtserialport,bus=serial0.0,nr={number + 2},chardev={name},"
            f"name={SESSION_PORT}.{number}"
        )


def _nics(spec: MachineSpec) -> Iterator[str]:
    for index, nic in enumerate(spec.nics):
        # No romfile: nobody boots from the network, and the firmware would load it.
        device = f"virtio-net-pci,id=nic{index},netdev=net{index},mac={nic.mac},romfile="
        device += f",addr={_NIC_SLOT + index:#x},host_mtu={nic.mtu}"
        yield from ("-netdev", f"tap,id=net{index},fd={nic.fd}", "-device", device)


def _images(spec: MachineSpec) -> Iterator[str]:
    # The guest maps the files' pages, which the host has once for all VMs, instead of reading
    # them into memory of its own. No state of these devices is saved with a machine, and none is
    # needed: their driver would call them for a flush alone, and nobody writes.
    for index, image in enumerate(spec.images):
        slot, function = divmod(index, _FUNCTIONS)
        path = _quoted(image.path)
        yield "-object"
        yield (
            f"memory-backend-file,id=image{index},mem-path={path},size={image.size},"
            f"share=on,readonly=on"
        )
        yield "-device"
        yield (
            f"virtio-pmem-pci,id=pmem{index},memdev=image{index},"
            f"multifunction=on,addr={_IMAGE_SLOT + slot:#x}.{function:#x}"
        )


def _disks(spec: MachineSpec) -> Iterator[str]:
    # What is written is in the host's page cache, where it outlives this process: a flush to the
    # disk would wait for what nobody needs. Two processes have it while one takes over from the
    # other, never at the same moment: no lock.
    for index, disk in enumerate(spec.disks):
        slot, function = divmod(index, _FUNCTIONS)
        yield "-blockdev"
        yield (
            f"driver=raw,node-name=disk{index},cache.direct=off,cache.no-flush=on,discard=unmap,"
            f"file.driver=file,file.locking=off,file.filename={_quoted(disk.path)}"
        )
        yield "-device"
        yield (
            f"virtio-blk-pci,id=blk{index},drive=disk{index},serial={_quoted(disk.serial)},"
            f"num-queues=1,multifunction=on,addr={_DISK_SLOT + slot:#x}.{function:#x}"
        )


def _ports(spec: MachineSpec) -> Iterator[str]:
    for index in range(spec.spare_ports):
        slot = _PORT_SLOT + index
        yield from ("-device", f"pcie-root-port,id=rp{index},chassis={index + 1},addr={slot:#x}")


def _quoted(value: object) -> str:
    """A value inside an option list: a comma is written twice."""
    return str(value).replace(",", ",,")
