"""Switch VMs on that were not there before: as copies of a template, or by booting them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import attrs

from xk8s.cluster.state.booted import BootedCluster, BootedNode
from xk8s.cluster.state.record import Backing, NodeRecord, sockets_of
from xk8s.cluster.vms import launch, volumes
from xk8s.cluster.vms.ram import memory_of
from xk8s.cluster.vms.ram_template import Template, discard
from xk8s.errors import MachineError
from xk8s.machine.net.namespace import Namespace
from xk8s.machine.qemu import migrate
from xk8s.machine.qemu.command import Memory, product_uuid
from xk8s.machine.qemu.qmp import Qmp
from xk8s.progress import Progress
from xk8s.util.processes import end
from xk8s.util.sparse import sparse_copy

_SECONDS = 60.0


def power_on(
    boot: BootedCluster,
    namespace: Namespace,
    backing: Backing,
    templates: Mapping[str, Template],
    progress: Progress,
) -> tuple[NodeRecord, ...]:
    """Start all VMs of ``boot``, those with a template (by node name) as copies of it. Their RAM is
    of that kind; "private" means what one shares with a template, whose other pages exist once for
    all.

    When one cannot be started, none is left. A template that QEMU does not take is discarded, and
    its VMs boot by themselves.
    """
    memory = memory_of(boot, backing)
    copied = tuple(planned for planned in boot.nodes if planned.node.name in templates)
    booted = tuple(planned for planned in boot.nodes if planned.node.name not in templates)
    started: list[NodeRecord] = []
    try:
        if copied:
            try:
                started += _copies(boot, copied, namespace, memory, templates)
            except (MachineError, OSError) as error:  # not taken, or removed meanwhile
                progress.note(f"each VM boots by itself, without a template: {error}")
                for template in {templates[planned.node.name] for planned in copied}:
                    discard(template)
                for planned in copied:
                    if (file := memory[planned.node.name].file) is not None:
                        file.unlink(missing_ok=True)
                booted = boot.nodes
        if booted:
            started += launch.start(attrs.evolve(boot, nodes=booted), namespace, memory)
    except BaseException:
        end((node.process for node in started), grace=0)
        raise
    return tuple(sorted(started, key=lambda node: node.name))


def _copies(
    boot: BootedCluster,
    copied: tuple[BootedNode, ...],
    namespace: Namespace,
    memory: Mapping[str, Memory],
    templates: Mapping[str, Template],
) -> tuple[NodeRecord, ...]:
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(max_workers=len(copied)))
        own = {
            planned.node.name: pool.submit(
                _memory, memory[planned.node.name], templates[planned.node.name]
            )
            for planned in copied
        }
        started = launch.start(
            attrs.evolve(boot, nodes=copied),
            namespace,
            {name: future.result() for name, future in own.items()},
            incoming=True,
            given={planned.node.name: _given(boot, planned) for planned in copied},
        )
        try:
            loads = [pool.submit(_load, boot, node, templates[node.name]) for node in started]
            for load in loads:
                load.result()
        except BaseException:
            end((node.process for node in started), grace=0)
            raise
    return started


def _memory(memory: Memory, template: Template) -> Memory:
    """Return the memory of a copy: its own if it will be shared, else the template's until it is
    written to.
    """
    if not memory.share:
        return attrs.evolve(memory, file=template.ram, saved=True)
    assert memory.file is not None
    memory.file.unlink(missing_ok=True)
    sparse_copy(template.ram, memory.file)
    return memory


def _given(boot: BootedCluster, booted: BootedNode) -> str:
    """Return what a copy gets in place of kernel arguments."""
    words = {
        # It continues at the time at which the template stopped.
        "time": int(time.time()),
        "uuid": product_uuid(f"{boot.cluster}/{booted.node.name}"),
    }
    own = (f"xk8s.{key}={value}" for key, value in words.items())
    layers = launch.layers_argument(disk.layer for disk in booted.disks)
    return " ".join((layers, *volumes.argument(booted.volumes), *own))


def _load(boot: BootedCluster, node: NodeRecord, template: Template) -> None:
    qmp_socket = sockets_of(boot.cluster, node.name, 0).qmp
    with Qmp(qmp_socket, node.name, timeout=_SECONDS) as qmp:
        migrate.load(qmp, template.state)
        qmp.execute("cont")
