"""The VMs of a plan: networks, disks, processes, and the wait for their guests."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from attrs import frozen

from xk8s import topology
from xk8s.artifacts.keys import artifact_key
from xk8s.artifacts.store import Resolved
from xk8s.cluster.access import Cluster, machine_error, tail
from xk8s.cluster.record import CONSOLES, NodeRecord, qemu_log, sockets_of
from xk8s.errors import MachineError, PlanError
from xk8s.layers.build import BuiltLayer
from xk8s.layers.node import make_node_image
from xk8s.net.namespace import Namespace
from xk8s.overlay import File, Nic, Take
from xk8s.paths import runtime_dir, state_dir
from xk8s.plan import NODE_LAYER, Plan, PlannedNode
from xk8s.progress import Progress
from xk8s.qemu import process
from xk8s.qemu.accel import Accel
from xk8s.qemu.command import (
    Disk,
    MachineSpec,
    Memory,
    PortForward,
    TapNic,
    UserNic,
)
from xk8s.qemu.ports import Reservation

BOOT_SECONDS = 600.0
NODES = "nodes"
"""Directory below the cluster's state."""


@frozen(kw_only=True)
class Kit:
    """What the VMs of a plan are made of: all of it is there before the first one starts."""

    plan: Plan
    accel: Accel
    resolved: Mapping[str, Resolved]
    layers: Mapping[str, BuiltLayer]


def write_images(plan: Plan, secrets: Mapping[str, Sequence[File]]) -> None:
    """The own layer of each node, with its keys, into the state directory."""
    for planned in plan.nodes:
        name = planned.node.name
        _private_dir(plan, NODES)
        make_node_image(_own_files(planned, secrets[name]), image_path(plan.name, name))


def image_path(cluster: str, node: str) -> Path:
    """Where the own layer of a node is."""
    return state_dir(cluster) / NODES / f"{node}.erofs"


def start(
    kit: Kit,
    namespace: Namespace,
    memory: Mapping[str, Memory],
    *,
    incoming: bool = False,
    generation: int = 0,
    forwarding: bool = True,
) -> tuple[NodeRecord, ...]:
    """Start all VMs at once; returns when every QEMU answers.

    ``memory`` is per node name. ``incoming``: they wait for a saved state. ``generation`` tells
    the processes of one node apart while one takes over from the other; the later one gets its
    ports when the earlier one has let go of them (``forwarding`` false).
    """
    plan = kit.plan

    def one(planned: PlannedNode) -> NodeRecord:
        node = planned.node
        wanted = planned.forwards if forwarding else ()
        with Reservation([forward.preferred for forward in wanted]) as reservation:
            ports = reservation.ports
        forwards = tuple(
            PortForward(guest_port=forward.guest_port, host_port=port)
            for forward, port in zip(wanted, ports, strict=True)
        )
        nics: list[UserNic | TapNic] = []
        try:
            for nic in node.nics:
                nics.append(_nic(plan, namespace, node.number, nic, forwards, generation))
            spec = _spec(kit, planned, tuple(nics), memory[node.name], incoming, generation)
            started = process.start(
                spec,
                runtime_dir=runtime_dir(plan.name),
                stderr=qemu_log(spec.console_log),
            )
        finally:
            for made in nics:
                if isinstance(made, TapNic):
                    os.close(made.fd)
        return NodeRecord(
            name=node.name,
            role=node.role,
            pid=started.process.pid,
            started=started.process.started,
            forwards={forward.name: started.host_ports[forward.guest_port] for forward in wanted},
        )

    _private_dir(plan, CONSOLES)
    with ThreadPoolExecutor(max_workers=8) as pool:
        return tuple(pool.map(one, plan.nodes))


def _spec(
    kit: Kit,
    planned: PlannedNode,
    nics: tuple[UserNic | TapNic, ...],
    memory: Memory,
    incoming: bool,
    generation: int,
) -> MachineSpec:
    plan, node = kit.plan, planned.node
    stack = plan.stack(planned)
    own = image_path(plan.name, node.name)
    paths = [own if name == NODE_LAYER else kit.layers[name].path for name in stack]
    names = ",".join(name.replace("/", "-") for name in stack)
    return MachineSpec(
        name=f"{plan.name}/{node.name}",
        cpus=kit.accel.cpus(node.cpus),
        memory=memory,
        accel=kit.accel,
        kernel=_member(plan.boot.kernel, kit.resolved),
        initrd=_member(plan.boot.initramfs, kit.resolved),
        cmdline=" ".join([*planned.kernel_args, f"xk8s.layers={names}"]),
        disks=tuple(Disk(path=path, serial=f"L{index:02}") for index, path in enumerate(paths)),
        nics=nics,
        sockets=sockets_of(plan.name, node.name, generation),
        console_log=state_dir(plan.name) / CONSOLES / f"{node.name}.log",
        pidfile=runtime_dir(plan.name) / f"{node.name}.{generation}.pid",
        extra=planned.qemu_args,
        incoming=incoming,
    )


def wait_booted(cluster: Cluster, progress: Progress) -> None:
    """Return when the agent of every guest answers; `MachineError` with the end of the console
    of one that died or says nothing.
    """
    waiting = [node.name for node in cluster.record.nodes]
    deadline = time.monotonic() + BOOT_SECONDS
    while waiting:
        for name in list(waiting):
            cluster.check_alive(name)
            log = tail(cluster.console_log(name), 1).strip()
            progress.item(name, log[:70] or "power on")
            try:
                cluster.agent(name).wait(0.0)
            except MachineError as error:
                if time.monotonic() > deadline:
                    raise machine_error(
                        f"{name}: the guest does not answer {BOOT_SECONDS:.0f} s after its start",
                        cluster.console_log(name),
                        hint="the end of its console says how far it came",
                    ) from error
                continue
            waiting.remove(name)
            progress.finish(name)
        time.sleep(0.2)


def networks(plan: Plan) -> Namespace:
    """The cluster's namespace with its bridges and routes."""
    namespace = Namespace.start(runtime_dir(plan.name))
    host = topology.HOST_PART
    for network in plan.ctx.networks:
        if network.index == 0:
            continue
        namespace.bridge(
            f"net{network.index}",
            mac=f"02:78:6b:38:{network.index:02x}:{host:02x}",
            mtu=network.mtu,
            addresses=(
                f"{topology.address(network.index, host)}/24",
                f"{topology.address(network.index, host, ipv6=True)}/120",
            ),
        )
    routers = plan.ctx.by_role("router")
    for prefix in plan.routes:
        namespace.route(prefix, via=topology.address(2, routers[0].number, ipv6=":" in prefix))
    return namespace


def _nic(
    plan: Plan,
    namespace: Namespace,
    number: int,
    nic: Nic,
    forwards: tuple[PortForward, ...],
    generation: int,
) -> UserNic | TapNic:
    if nic.network == 0:
        return UserNic(mac=nic.mac, guest=nic.ipv4.partition("/")[0], forwards=forwards)
    network = next(one for one in plan.ctx.networks if one.index == nic.network)
    name = f"vm{number:03}n{nic.network}g{generation}"
    fd = namespace.tap(name, bridge=f"net{nic.network}", mtu=network.mtu)
    return TapNic(mac=nic.mac, fd=fd, mtu=network.mtu)


def _own_files(planned: PlannedNode, secrets: Sequence[File]) -> list[File]:
    files = {file.path: file for file in planned.files}
    for secret in secrets:
        if secret.path in files:
            raise PlanError(f"{secret.path} is written twice", where=planned.node.name)
        files[secret.path] = secret
    return list(files.values())


def _member(take: Take, resolved: Mapping[str, Resolved]) -> Path:
    path: Path = resolved[artifact_key(take.artifact)].path / take.member
    return path


def _private_dir(plan: Plan, name: str) -> None:
    (state_dir(plan.name) / name).mkdir(mode=0o700, exist_ok=True)
