"""A disk for a running VM, on one of its spare ports, for as long as it is needed.

It must be gone again before the VM is saved: a state fits only the machine that was booted.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xk8s.cluster.handle import Cluster
from xk8s.errors import MachineError
from xk8s.machine.qemu.qmp import Qmp

SERIAL = "xk8s-applied"
_DEVICE, _DISK, _PORT = "applied", "applied-disk", "rp0"
_SECONDS = 60.0
_UNPLUG_SECONDS = 30.0


@contextmanager
def plugged(cluster: Cluster, node: str, image: Path) -> Iterator[None]:
    """The VM has ``image`` as a read-only disk with serial `SERIAL` while the block runs.

    `MachineError` when QEMU refuses it, or when the guest does not let go of it afterwards.
    """
    clear(cluster, node)
    with _monitor(cluster, node) as qmp:
        qmp.execute(
            "blockdev-add",
            driver="raw",
            node_name=_DISK,
            read_only=True,
            file={"driver": "file", "filename": str(image.absolute())},
        )
        try:
            qmp.execute(
                "device_add",
                driver="virtio-blk-pci",
                id=_DEVICE,
                drive=_DISK,
                bus=_PORT,
                serial=SERIAL,
            )
        except BaseException:
            qmp.execute("blockdev-del", node_name=_DISK)
            raise
    try:
        yield
    finally:
        with _monitor(cluster, node) as qmp:
            _unplug(qmp)


def clear(cluster: Cluster, node: str) -> None:
    """Take out what a killed apply left plugged in, if it did."""
    with _monitor(cluster, node) as qmp:
        names = {block_node["node-name"] for block_node in qmp.execute("query-named-block-nodes")}
        if _DISK in names:
            _unplug(qmp)


def _unplug(qmp: Qmp) -> None:
    """The disk can be taken away once the guest has let go of the device."""
    with contextlib.suppress(MachineError):  # it was never there, or is going already
        qmp.execute("device_del", id=_DEVICE)
    deadline = time.monotonic() + _UNPLUG_SECONDS
    while True:
        try:
            qmp.execute("blockdev-del", node_name=_DISK)
        except MachineError:
            if time.monotonic() > deadline:
                raise
        else:
            return
        time.sleep(0.1)


def _monitor(cluster: Cluster, node: str) -> Qmp:
    return Qmp(cluster.sockets(node).qmp, node, timeout=_SECONDS)
