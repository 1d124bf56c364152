"""Record of what the VMs of a cluster were started from: ``boot.json`` of its state, and of its
snapshots.

A VM is saved, restored and handed to a new process with exactly the machine that it was booted
with. So that is recorded at boot, and never made again from a plan: the sources of the plan (your
own builds, overlays, xk8s itself) keep changing while the cluster runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cattrs
from attrs import frozen

from xk8s.addresses import HOST_LOOPBACK
from xk8s.artifact_keys import artifact_key
from xk8s.build.artifacts.store import Store
from xk8s.build.layers.build import layers_dir
from xk8s.cluster.inputs import ClusterInputs
from xk8s.cluster.state.documents import read_document
from xk8s.machine.net.outside import Endpoint, Outside
from xk8s.machine.qemu.accelerator import Accel
from xk8s.overlay import Forward, Network, Node, Take, Volume
from xk8s.planning.plan import NODE_LAYER, Plan
from xk8s.planning.proxy import proxy_of
from xk8s.util.paths import cache_dir, write_private

BOOT = "boot.json"
_VERSION = 1


@frozen(kw_only=True)
class BootDisk:
    """An image: ``layer`` is its name in the guest; ``key`` that of the image in the cache, "" for
    the node's own.
    """

    layer: str
    key: str

    @property
    def path(self) -> Path:
        """Path of an image in the cache."""
        return layers_dir(cache_dir().absolute()) / f"{self.key}.erofs"


@frozen(kw_only=True)
class BootedNode:
    """A VM, as far as it is started by the same command again. ``disks``: lowest first."""

    node: Node
    disks: tuple[BootDisk, ...]
    kernel_args: tuple[str, ...]
    qemu_args: tuple[str, ...]
    forwards: tuple[Forward, ...]
    volumes: tuple[Volume, ...] = ()

    @property
    def management_address(self) -> str:
        """The node's address on the management network."""
        return self.node.nic(0).ipv4.partition("/")[0]


@frozen(kw_only=True)
class BootedCluster:
    """Record of all VMs and their networks. ``kernel`` and ``initrd`` are files below the cache;
    ``routes`` are prefixes behind the first router; ``outside`` and ``proxy`` belong to no
    VM, and are those of whoever starts them.
    """

    version: int = _VERSION
    cluster: str
    accel: Accel
    kernel: Path
    initrd: Path
    networks: tuple[Network, ...]
    routes: tuple[str, ...]
    outside: Outside = "internet"
    proxy: Endpoint | None = None
    nodes: tuple[BootedNode, ...]

    @property
    def layers(self) -> dict[str, str]:
        """Name -> key of the images in the cache."""
        return {disk.layer: disk.key for node in self.nodes for disk in node.disks if disk.key}

    def missing(self) -> str | None:
        """Return what no longer exists of what the VMs are started from, in words, or None."""
        for path in (self.kernel, self.initrd):
            if not (cache_dir() / path).exists():
                return f"{cache_dir() / path} no longer exists"
        for node in self.nodes:
            for disk in node.disks:
                if disk.key and not disk.path.exists():
                    return f"the image of layer {disk.layer} is no longer in the cache"
        return None


def boot_of(inputs: ClusterInputs) -> BootedCluster:
    """Return what the VMs of a plan are started from."""
    return planned_boot(
        inputs.plan, inputs.accel, {name: built.key for name, built in inputs.layers.items()}
    )


def planned_boot(plan: Plan, accel: Accel, keys: Mapping[str, str]) -> BootedCluster:
    """Return what will boot before all of it is made; ``keys`` are the known ones of images."""
    return BootedCluster(
        cluster=plan.name,
        accel=accel,
        kernel=_member(plan.boot.kernel),
        initrd=_member(plan.boot.initramfs),
        networks=plan.ctx.networks,
        routes=plan.routes,
        **way_out(plan),
        nodes=tuple(
            BootedNode(
                node=planned.node,
                disks=tuple(
                    BootDisk(layer=name, key="" if name == NODE_LAYER else keys.get(name, "?"))
                    for name in plan.stack(planned)
                ),
                kernel_args=planned.kernel_args,
                qemu_args=planned.qemu_args,
                forwards=planned.forwards,
                volumes=planned.volumes,
            )
            for planned in plan.nodes
        ),
    )


def way_out(plan: Plan) -> dict[str, Any]:
    """Return where the management network of a plan leads, as fields of `BootedCluster`."""
    proxy = proxy_of(plan.cluster)
    if proxy is not None:
        host = HOST_LOOPBACK if proxy.on_loopback else proxy.host
        return {"outside": plan.cluster.outside, "proxy": Endpoint(host, proxy.port)}
    return {"outside": plan.cluster.outside, "proxy": None}


def write_boot(boot: BootedCluster, directory: Path) -> None:
    """Keep it below ``directory``, a cluster's or a snapshot's."""
    text = json.dumps(_converter.unstructure(boot), indent=1)
    write_private(directory / BOOT, text.encode())


def read_boot(directory: Path) -> BootedCluster:
    """Return what `write_boot` kept; `StateError` when that cannot be read."""
    return read_document(
        directory / BOOT,
        BootedCluster,
        version=_VERSION,
        what="what the VMs were started from is unknown",
        converter=_converter,
    )


def _member(take: Take) -> Path:
    cache = cache_dir().absolute()
    return (Store(cache).place(artifact_key(take.artifact)) / take.member).relative_to(cache)


_converter = cattrs.Converter()
_converter.register_unstructure_hook(Path, str)
_converter.register_structure_hook(Path, lambda value, _: Path(value))
