"""Guests that have rebooted by themselves, and so lost what was applied to them.

A guest boots from the images that its VM was started with, however often. What `apply` and new keys
brought lay in its memory. Its boot id tells: it is written down with the files of each node.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import attrs

from xk8s.build.layers.erofs_read import open_image
from xk8s.build.layers.stack import identity
from xk8s.cluster.handle import Cluster
from xk8s.cluster.state.booted import BootedCluster, BootedNode, read_boot
from xk8s.cluster.state.guest_files import (
    GuestFiles,
    NodeFiles,
    read_guest_files,
    write_guest_files,
)
from xk8s.cluster.state.node_paths import image_path
from xk8s.errors import MachineError
from xk8s.machine.qemu.agent import Agent

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def boot_ids(
    cluster: Cluster, nodes: Iterable[str] | None = None, *, timeout: float = 10.0
) -> dict[str, str]:
    """Return the boot id of each of these nodes (None: all) whose guest agent answers in time."""
    absent = cluster.absent
    names = [node.name for node in cluster.record.nodes] if nodes is None else list(nodes)
    found: dict[str, str] = {}

    def ask(name: str) -> None:
        agent = Agent(cluster.sockets(name).agent, name, timeout=timeout)
        with suppress(MachineError):
            found[name] = agent.read_file(_BOOT_ID).decode(errors="replace").strip()

    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(ask, [name for name in names if name not in absent]))
    return found


def rebooted(
    boot: BootedCluster, now: GuestFiles, boots: Mapping[str, str]
) -> tuple[tuple[str, ...], GuestFiles]:
    """Return the nodes that have rebooted and lack something since then, and what the guests really
    have, by their present boot ids.
    """
    nodes = dict(now.nodes)
    lacking = []
    for planned in boot.nodes:
        name = planned.node.name
        if name not in nodes or name not in boots:
            continue
        known = nodes[name]
        if known.boot and known.boot != boots[name]:
            nodes[name] = attrs.evolve(
                booted_files(planned, image_path(boot.cluster, name)), boot=boots[name]
            )
            if nodes[name] != attrs.evolve(known, boot=boots[name]):
                lacking.append(name)
    return tuple(lacking), attrs.evolve(now, nodes=nodes)


def lacking_nodes(cluster: Cluster, *, timeout: float = 10.0) -> tuple[str, ...]:
    """Return the nodes that have rebooted and lack what had been applied to them."""
    boots = boot_ids(cluster, timeout=timeout)
    state = cluster.state_dir
    return rebooted(read_boot(state), read_guest_files(state), boots)[0]


def booted_files(booted: BootedNode, image: Path) -> NodeFiles:
    """Return what a guest has after a boot: its layers, its own one is ``image``."""
    with open_image(image) as own:
        files = {
            entry.path: identity(entry.mode, own.read(entry.path))
            for entry in own.walk()
            if stat.S_ISREG(entry.mode)
        }
    return NodeFiles(stack=tuple((disk.layer, disk.key) for disk in booted.disks), files=files)


def remember_boots(cluster: Cluster, nodes: Iterable[str]) -> None:
    """Write down the boot ids of nodes that have just booted."""
    boots = boot_ids(cluster, nodes)
    now = read_guest_files(cluster.state_dir)
    known = {name: attrs.evolve(now.nodes[name], boot=boot) for name, boot in boots.items()}
    write_guest_files(attrs.evolve(now, nodes=now.nodes | known), cluster.state_dir)
