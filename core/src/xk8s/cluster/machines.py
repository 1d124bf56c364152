"""The VMs of a plan: networks, disks, processes, and the wait for their guests."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from xk8s import topology
from xk8s.artifacts.keys import artifact_key
from xk8s.artifacts.store import Resolved
from xk8s.cluster.access import Cluster, tail
from xk8s.cluster.record import NodeRecord
from xk8s.errors import MachineError, PlanError
from xk8s.layers.build import BuiltLayer
from xk8s.layers.node import make_node_image
from xk8s.net.namespace import Namespace
from xk8s.overlay import File, Nic, Take
from xk8s.paths import runtime_dir, state_dir
from xk8s.plan import Plan, PlannedNode
from xk8s.progress import Progress
from xk8s.qemu import process
from xk8s.qemu.accel import Accel
from xk8s.qemu.command import (
    Disk,
    MachineSpec,
    Memory,
    PortForward,
    Sockets,
    TapNic,
    UserNic,
)
from xk8s.qemu.ports import Reservation

BOOT_SECONDS = 600.0
NODE_LAYER = "node"


def start(
    plan: Plan,
    accel: Accel,
    resolved: Mapping[str, Resolved],
    layers: Mapping[str, BuiltLayer],
    secrets: Mapping[str, Sequence[File]],
) -> tuple[NodeRecord, ...]:
    """Make the networks and start all VMs at once; returns when every QEMU answers."""
    namespace = _networks(plan)

    def one(planned: PlannedNode) -> NodeRecord:
        node = planned.node
        directory = state_dir(plan.name) / "nodes"
        image = directory / f"{node.name}.erofs"
        directory.mkdir(mode=0o700, exist_ok=True)
        make_node_image(_own_files(planned, secrets[node.name]), image)
        paths = [layers[name].path for name in planned.layers] + [image]
        preferred = [forward.preferred for forward in planned.forwards]
        with Reservation(preferred) as reservation:
            ports = reservation.ports
        forwards = tuple(
            PortForward(guest_port=forward.guest_port, host_port=port)
            for forward, port in zip(planned.forwards, ports, strict=True)
        )
        taps: list[int] = []
        try:
            nics = []
            for nic in node.nics:
                nics.append(_nic(plan, namespace, node.number, nic, forwards))
                if isinstance(nics[-1], TapNic):
                    taps.append(nics[-1].fd)
            console = state_dir(plan.name) / "console"
            console.mkdir(mode=0o700, exist_ok=True)
            names = ",".join(name.replace("/", "-") for name in (*planned.layers, NODE_LAYER))
            spec = MachineSpec(
                name=f"{plan.name}/{node.name}",
                cpus=accel.cpus(node.cpus),
                memory=Memory(size=node.memory),
                accel=accel,
                kernel=_member(plan.boot.kernel, resolved),
                initrd=_member(plan.boot.initramfs, resolved),
                cmdline=" ".join([*planned.kernel_args, f"xk8s.layers={names}"]),
                disks=tuple(
                    Disk(path=path, serial=f"L{index:02}") for index, path in enumerate(paths)
                ),
                nics=tuple(nics),
                sockets=Sockets.below(runtime_dir(plan.name), node.name),
                console_log=console / f"{node.name}.log",
                pidfile=runtime_dir(plan.name) / f"{node.name}.pid",
                extra=planned.qemu_args,
            )
            started = process.start(
                spec,
                runtime_dir=runtime_dir(plan.name),
                stderr=console / f"{node.name}.qemu.log",
            )
        finally:
            for fd in taps:
                os.close(fd)
        return NodeRecord(
            name=node.name,
            role=node.role,
            pid=started.process.pid,
            started=started.process.started,
            forwards={
                forward.name: started.host_ports[forward.guest_port] for forward in planned.forwards
            },
        )

    with ThreadPoolExecutor(max_workers=8) as pool:
        return tuple(pool.map(one, plan.nodes))


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
                    raise MachineError(
                        f"{name}: the guest does not answer {BOOT_SECONDS:.0f} s after its start",
                        where=str(cluster.console_log(name)),
                        hint=f"xk8s console {name} shows it",
                        log=tail(cluster.console_log(name)),
                    ) from error
                continue
            waiting.remove(name)
            progress.finish(name)
        time.sleep(0.2)


def _networks(plan: Plan) -> Namespace:
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
    plan: Plan, namespace: Namespace, number: int, nic: Nic, forwards: tuple[PortForward, ...]
) -> UserNic | TapNic:
    if nic.network == 0:
        return UserNic(mac=nic.mac, guest=nic.ipv4.partition("/")[0], forwards=forwards)
    network = next(one for one in plan.ctx.networks if one.index == nic.network)
    fd = namespace.tap(f"vm{number:03}n{nic.network}", bridge=f"net{nic.network}", mtu=network.mtu)
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
