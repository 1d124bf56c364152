"""Transfer of changed files to a node: few through the guest agent, many on a disk that is plugged
in.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from xk8s.build.layers.build import stage_entries
from xk8s.build.layers.diff import Difference
from xk8s.build.layers.erofs_write import make_image
from xk8s.cluster.change.push import PLACE, STAGE, push, run, staged
from xk8s.cluster.handle import Cluster
from xk8s.cluster.vms.hotplug import SERIAL, plugged
from xk8s.overlay import Entry

BY_AGENT = 1 << 20
"""Bytes: the agent takes them as text, at a few MiB a second without KVM."""

# Arguments: the root, the stage, the disk's serial.
_FETCH = r"""
set -e
rm -rf "$2"
mkdir -m 700 "$2"
disk=
for try in $(seq 100); do
    for device in /sys/block/vd*; do
        if [ "$(cat "$device/serial" 2>/dev/null)" = "$3" ]; then disk=/dev/${device##*/}; fi
    done
    if [ -b "$disk" ]; then break; fi
    sleep 0.1
done
if [ ! -b "$disk" ]; then echo "the disk does not show up" >&2; exit 1; fi
mount=/run/xk8s-apply
mkdir -p "$mount"
mount -t erofs -o ro "$disk" "$mount"
trap 'cd /; umount "$mount" 2>/dev/null || :' EXIT
cp -a "$mount/." "$2/"
umount "$mount"
trap - EXIT
"""


def send(
    cluster: Cluster, node: str, change: Difference, put: Iterable[Entry], *, work: Path
) -> None:
    """Bring a node's files to what ``change`` says; ``put`` has what appears. ``work`` is a private
    directory for a disk. `MachineError` when the guest cannot.
    """
    gone = (*change.gone, *change.emptied)
    if change.size < BY_AGENT:
        push(cluster, node, put, gone=gone, replaced=change.replaced)
        return
    with tempfile.TemporaryDirectory(prefix=f".apply-{node}-", dir=work) as scratch:
        tree, image = Path(scratch) / "tree", Path(scratch) / "image"
        stage_entries(staged(put, gone, change.replaced), {}, tree, label=f"changes of {node}")
        make_image(tree, image)
        argv = ["sh", "-c", _FETCH + PLACE, "sh", "/", STAGE, SERIAL]
        with plugged(cluster, node, image):
            run(cluster, node, argv, len(change.paths))
