"""Templates: the memory of a VM that was booted to the point where it learns which node it is.

``CACHE/templates/KEY/`` has ram, state and template.json. The key covers everything that the VM
consists of: kernel, initramfs, arguments, CPUs, memory, QEMU. Differences between nodes are added
later (see docs/reference/boot.md): layers, network cards, name, and every key, so that a template
contains no secret and may serve all clusters.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import attrs
from attrs import frozen
from filelock import FileLock, Timeout

from xk8s.artifact_keys import artifact_key
from xk8s.cluster.inputs import ClusterInputs
from xk8s.cluster.state.booted import BootedCluster, BootedNode
from xk8s.cluster.state.node_paths import CONSOLES, qemu_log
from xk8s.cluster.state.record import sockets_of
from xk8s.cluster.vms import launch, volumes
from xk8s.cluster.vms.boot_console import StalledError, wait_for_line
from xk8s.cluster.vms.machine_key import machine_key
from xk8s.cluster.vms.memory_room import promise, release
from xk8s.cluster.vms.ram import ram_directory
from xk8s.errors import MachineError, Xk8sError
from xk8s.machine.qemu import migrate, process
from xk8s.machine.qemu.accelerator import qemu_version
from xk8s.machine.qemu.command import MachineSpec, Memory, Sockets, command, room
from xk8s.machine.qemu.qmp import Qmp
from xk8s.progress import Progress
from xk8s.util import intact
from xk8s.util.digest import digest
from xk8s.util.disk_full import disk_guard
from xk8s.util.files import put_in_place, remove_tree
from xk8s.util.log import get_logger
from xk8s.util.paths import (
    cache_dir,
    cache_lock,
    make_private,
    runtime_dir,
    state_dir,
    write_private,
)
from xk8s.util.sparse import content_sum, sparse_copy

log = get_logger(__name__)

ARGUMENT = "xk8s.template"
"""Kernel argument that makes a guest a template."""
READY = "xk8s-initramfs: waiting for a node"
"""What its console says when it is."""

_FORMAT = 2
_NEW = ".new-"
"""Before the key, in the name of the directory in which a template is made."""
META = "template.json"
_SECONDS = 180.0
_TRIES = 3
_BACK_ENDS = frozenset({"-object", "-chardev", "-netdev", "-blockdev"})


@frozen(kw_only=True)
class Template:
    """A complete template."""

    directory: Path

    @property
    def ram(self) -> Path:
        """File with all of its memory; its holes are zeros."""
        return self.directory / "ram"

    @property
    def state(self) -> Path:
        """File with the state of its CPUs and devices."""
        return self.directory / "state"


def templates_dir(cache: Path) -> Path:
    """Return the directory of templates."""
    return cache / "templates"


def template_lock(cache: Path, name: str) -> Path:
    """Return the lock file of a template, or of what is being made of one (``name`` is that of the
    directory): who makes or removes it holds it.
    """
    return cache_lock(cache, f"template-{name.removeprefix(_NEW)}")


def discard(template: Template) -> None:
    """Remove it. VMs that were started from it keep their memory: the file stays open."""
    remove_tree(template.directory)


def get_templates(
    inputs: ClusterInputs, boot: BootedCluster, progress: Progress
) -> Mapping[str, Template]:
    """Return the template of each node, by its name; what is missing is made first. Nodes that have
    to boot by themselves are left out, with a note if that is not what was meant.
    """
    plan = inputs.plan
    if not (plan.cluster.template and plan.boot.template):
        return {}
    if qemu_version() < migrate.LEAST_QEMU:
        return {}
    keys = {
        planned.node.name: key for planned in boot.nodes if (key := _key(inputs, boot, planned))
    }
    first = {
        key: planned for planned in reversed(boot.nodes) if (key := keys.get(planned.node.name))
    }
    found = {key: there for key in first if (there := _find(key))}
    missing = {key: planned for key, planned in first.items() if key not in found}
    if missing:
        try:
            with progress.stage("template"):
                found |= _make_all(boot, missing, progress)
        except Xk8sError as error:
            progress.note(f"each VM boots by itself: {error} ({error.where})")
            return {}
    return {name: found[key] for name, key in keys.items()}


def _key(inputs: ClusterInputs, boot: BootedCluster, booted: BootedNode) -> str | None:
    """Return what its template must be made of, or None when it can have none."""
    spec = launch.spec(boot, booted, memory=Memory(size=booted.node.memory))
    if not _pluggable(spec.extra) or room(spec.images) != room(()):
        return None
    nowhere = Path("/")
    bare = attrs.evolve(
        _bare(spec),
        name="template",
        kernel=nowhere,
        initrd=nowhere,
        sockets=Sockets.below(nowhere, "template"),
        console_log=nowhere,
        pidfile=nowhere,
    )
    image = inputs.plan.boot
    return digest(
        {
            "format": _FORMAT,
            "machine": machine_key(inputs.accel),
            "boot": [
                (inputs.resolved[artifact_key(take.artifact)].digest, take.member)
                for take in (image.kernel, image.initramfs)
            ],
            "command": command(bare),
        }
    )


def _bare(spec: MachineSpec) -> MachineSpec:
    """A node's VM without what is its own."""
    own = (launch.LAYERS, volumes.ARGUMENT)
    words = [word for word in spec.cmdline.split() if not word.startswith(own)]
    cmdline = " ".join([*words, ARGUMENT])
    return attrs.evolve(spec, images=(), nics=(), disks=(), extra=(), cmdline=cmdline)


def _pluggable(words: Sequence[str]) -> bool:
    """Return whether QEMU arguments are of PCI devices and their back ends alone. A copy finds
    those when it scans the bus; anything else would have to be in the template as well.
    """
    pairs = zip(words[::2], words[1::2], strict=False)
    return len(words) % 2 == 0 and all(
        option in _BACK_ENDS or (option == "-device" and value.partition(",")[0].endswith("-pci"))
        for option, value in pairs
    )


def _find(key: str) -> Template | None:
    """Return the template if nothing is wrong with it: it is read once per start of the machine."""
    directory = templates_dir(cache_dir()) / key
    why = _damage(directory) if directory.exists() else "not in the cache"
    if why is not None:
        log.info("cache_miss", kind="template", key=key[:16], reason=why)
        return None
    with contextlib.suppress(OSError):  # the time of its last use
        os.utime(directory / META)
    log.info("cache_hit", kind="template", key=key[:16])
    return Template(directory=directory)


def _damage(directory: Path) -> str | None:
    try:
        sums = intact.unseal((directory / META).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        return f"damaged: {error}"
    files = [directory / name for name in ("ram", "state")]

    def compare() -> str | None:
        wrong = [path.name for path in files if _sum(path) != sums.get(path.name)]
        return f"the checksum of {wrong[0]} differs" if wrong else None

    why = intact.damage(directory / intact.MARK, files, compare)
    return why and f"damaged: {why}"


def _sum(path: Path, content: str = "") -> str:
    # A hole is nothing to the sum of the content, and the end of memory to a VM.
    return f"{content or content_sum(path)} {path.stat().st_size}"


def _make_all(
    boot: BootedCluster, missing: Mapping[str, BootedNode], progress: Progress
) -> dict[str, Template]:
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=len(missing)) as pool:
        try:
            futures = {
                key: pool.submit(_make, boot, booted, key, progress, stop)
                for key, booted in missing.items()
            }
            return {key: future.result() for key, future in futures.items()}
        except BaseException:
            stop.set()
            raise


def _make(
    boot: BootedCluster, booted: BootedNode, key: str, progress: Progress, stop: threading.Event
) -> Template:
    cache = cache_dir()
    target = templates_dir(cache) / key
    with _lock(template_lock(cache, key), stop):
        if there := _find(key):
            return there  # another command made it meanwhile
        if target.exists():
            progress.note(f"a template is made again: {_damage(target)}")
        for tries in range(1, _TRIES + 1):
            try:
                return _boot(boot, booted, target, progress, stop)
            except StalledError as error:
                if tries == _TRIES:
                    raise
                progress.note(f"{error}: trying again")
        raise AssertionError  # of the loop above


@contextmanager
def _lock(path: Path, stop: threading.Event) -> Iterator[None]:
    """Held while it is made. Ctrl-C must not wait for another command that does."""
    lock = FileLock(path)
    while True:
        try:
            lock.acquire(timeout=0.2)
            break
        except Timeout:
            if stop.is_set():
                raise MachineError("given up", where=str(path)) from None
    try:
        yield
    finally:
        lock.release()


def _boot(
    boot: BootedCluster, booted: BootedNode, target: Path, progress: Progress, stop: threading.Event
) -> Template:
    node = booted.node
    label = f"template-{node.name}"  # of a role there may be several sizes
    ram = ram_directory(boot.cluster) / f"{label}.ram"
    promise(boot.cluster, node.memory << 20)
    work = target.with_name(f"{_NEW}{target.name}")  # one at a time: the caller has the lock
    spec = _spec(boot, booted, label, ram)
    progress.item(label, f"booting with {node.memory} MiB and {spec.cpus} CPUs")
    started = None
    try:
        with disk_guard(work.parent):
            make_private(work.parent)
            remove_tree(work)
            make_private(work)
            make_private(spec.console_log.parent)
            for path in (ram, spec.console_log):
                path.unlink(missing_ok=True)
            started = process.spawn(
                spec, runtime_dir=runtime_dir(boot.cluster), stderr=qemu_log(spec.console_log)
            )
            started.wait()
            wait_for_line(started, READY, _SECONDS, stop=stop)
            with Qmp(spec.sockets.qmp, label, timeout=60.0) as qmp:
                qmp.execute("stop")
                migrate.save(qmp, work / "state")
            started.kill()
            content = sparse_copy(ram, work / "ram")
            sums = {"ram": _sum(work / "ram", content), "state": _sum(work / "state")}
            write_private(work / META, intact.seal(sums).encode())
            intact.note_compared(work / intact.MARK, [work / name for name in sums])
            put_in_place(work, target)  # of a damaged one
    finally:
        if started is not None:
            started.kill()
        for path in (ram, spec.console_log, qemu_log(spec.console_log)):
            path.unlink(missing_ok=True)
        release(boot.cluster, node.memory << 20)
        remove_tree(work)
        progress.finish(label)
    return Template(directory=target)


def _spec(boot: BootedCluster, booted: BootedNode, label: str, ram: Path) -> MachineSpec:
    memory = Memory(size=booted.node.memory, file=ram, share=True)
    return attrs.evolve(
        _bare(launch.spec(boot, booted, memory=memory)),
        name=f"{boot.cluster}/{label}",
        sockets=sockets_of(boot.cluster, label, 0),
        console_log=state_dir(boot.cluster) / CONSOLES / f"{label}.log",
        pidfile=runtime_dir(boot.cluster) / f"{label}.pid",
    )
