"""Whether images and kernel of a snapshot are as its VMs had them: their memory fits no others."""

from __future__ import annotations

from xk8s.build.artifacts.store import Store
from xk8s.build.layers import whole
from xk8s.cluster.state.booted import BootedCluster
from xk8s.util.paths import cache_dir


def damaged(boot: BootedCluster) -> str | None:
    """Return what is damaged of images, kernel and initramfs, in words, or None. Each is read once
    per start of the machine.
    """
    disks = {disk.path: disk.layer for node in boot.nodes for disk in node.disks if disk.key}
    for path, layer in disks.items():
        if why := whole.damage(path):
            return f"the image of layer {layer} is damaged: {why}"
    store = Store(cache_dir())
    for path in (boot.kernel, boot.initrd):
        if store.whole(path.parts[1]) is None:  # artifacts/KEY/…
            return f"{cache_dir() / path} is damaged"
    return None
