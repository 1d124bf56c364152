"""Room on the tmpfs for the RAM of VMs, promised to one cluster at a time.

A RAM file grows while its guest runs; when the tmpfs is full then, the kernel ends QEMU (SIGBUS).
So what was promised counts, not what is used: ``promised`` in the directory of each cluster has the
bytes that its files may grow to, all in all.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from xk8s.cluster.state.booted import BootedCluster
from xk8s.cluster.state.node_paths import PROMISED
from xk8s.cluster.state.record import Backing
from xk8s.cluster.vms.ram import ram_directory, size_of
from xk8s.errors import HostError
from xk8s.progress import Progress
from xk8s.util.paths import memory_dir


def choose_backing(
    boot: BootedCluster, progress: Progress, *, saved: bool, copied: bool
) -> Backing:
    """Return the kind of RAM that suits VMs that will be ``saved``, or are ``copied`` from a
    template: to be saved all of it has to be in a file of its own, and else what VMs have of a
    template is there once. Room for files is promised to the cluster then.
    """
    ram_directory(boot.cluster)
    if copied and not saved:
        return "private"
    try:
        promise(boot.cluster, size_of(boot))
    except HostError as error:
        progress.note(f"the VMs use ordinary memory, and the cluster cannot be saved: {error}")
        return "private" if copied else "anonymous"
    return "shared"


def promise(cluster: str, size: int) -> None:
    """Promise ``size`` more bytes to a cluster; `HostError` when others may need them."""
    directory = ram_directory(cluster)
    with _locked(directory.parent):
        free = shutil.disk_usage(directory).free
        owed = {path.name: _owed(path) for path in _clusters(directory.parent)}
        if free - sum(owed.values()) < size:
            mine = owed.pop(directory.name, 0)
            others = [name.rpartition("-")[0] for name, bytes_ in sorted(owed.items()) if bytes_]
            raise HostError(
                f"not enough space for {size >> 20} MiB of memory of VMs: {free >> 20} MiB are "
                f"free, {mine + sum(owed.values()) >> 20} MiB of that are promised"
                + (f" to {', '.join(others)}" if others else ""),
                where=str(directory.parent),
                hint="shut down other clusters, or boot this one with less: --memory worker=MIB",
            )
        _write(directory, _promised(directory) + size)


def release(cluster: str, size: int) -> None:
    """Take back a part of what was promised."""
    directory = memory_dir(cluster)
    if directory.is_dir():
        with _locked(directory.parent):
            _write(directory, max(0, _promised(directory) - size))


def release_unused(cluster: str) -> None:
    """The files of the cluster will not grow any more: they keep what they have."""
    directory = memory_dir(cluster)
    if directory.is_dir():
        with _locked(directory.parent):
            _write(directory, _used(directory))


def used(path: Path) -> int:
    """Return the bytes that a file takes, 0 for none."""
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0


def _locked(root: Path) -> FileLock:
    return FileLock(root / ".lock", mode=0o600)


def _clusters(root: Path) -> Iterator[Path]:
    return (path for path in root.iterdir() if path.is_dir())


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.name != PROMISED]


def _used(directory: Path) -> int:
    return sum(map(used, _files(directory)))


def _promised(directory: Path) -> int:
    try:
        return int((directory / PROMISED).read_text())
    except (OSError, ValueError):
        # Nothing yet, or nobody knows any more (see `xk8s.cluster.resume`).
        return sum(path.stat().st_size for path in _files(directory))


def _owed(directory: Path) -> int:
    try:
        return max(0, _promised(directory) - _used(directory))
    except OSError:
        return 0  # it is being removed


def _write(directory: Path, size: int) -> None:
    (directory / PROMISED).write_text(str(size))
