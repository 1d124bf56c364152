"""The VMs of a plan: networks, disks, processes, and the wait for their guests."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import attrs

from xk8s.addresses import HOST_PART, address, host_ipv6
from xk8s.build.layers.node_layer import make_node_image
from xk8s.cluster.handle import Cluster, machine_error, tail
from xk8s.cluster.state.booted import BootedCluster, BootedNode
from xk8s.cluster.state.node_paths import CONSOLES, NODES, image_path, qemu_log, volume_path
from xk8s.cluster.state.record import NodeRecord, sockets_of
from xk8s.cluster.vms import volumes
from xk8s.cluster.vms.boot_console import is_stalled
from xk8s.errors import MachineError, PlanError
from xk8s.machine.net import outside
from xk8s.machine.net.namespace import Namespace
from xk8s.machine.net.privileges import has_ipv6
from xk8s.machine.qemu import process
from xk8s.machine.qemu.command import Disk, DiskImage, MachineSpec, Memory, TapNic
from xk8s.machine.qemu.qmp import Qmp
from xk8s.overlay import File, Nic, Node
from xk8s.planning.plan import Plan, PlannedNode
from xk8s.progress import Progress
from xk8s.util.paths import cache_dir, runtime_dir, state_dir
from xk8s.util.processes import end

BOOT_SECONDS = 600.0
_LONGEST_CONSOLE = 16 << 20
LAYERS = "xk8s.layers="
"""So begins the argument with the names of a VM's layers."""


def write_images(plan: Plan, secrets: Mapping[str, Sequence[File]]) -> None:
    """The own layers of nodes with their ``secrets``, by name, into the state directory."""
    for planned in plan.nodes:
        name = planned.node.name
        if name not in secrets:
            continue
        _private_dir(plan.name, NODES)
        make_node_image(own_files(planned, secrets[name]), image_path(plan.name, name))


def start(
    boot: BootedCluster,
    namespace: Namespace,
    memory: Mapping[str, Memory],
    *,
    incoming: bool = False,
    given: Mapping[str, str] | None = None,
    generation: int = 0,
) -> tuple[NodeRecord, ...]:
    """Start all VMs at once; returns when every QEMU answers. When one does not, none is left.

    ``memory`` is per node name. ``incoming``: they wait for a saved state, in which the guest may
    look for what is ``given``, per node name (then it is that of a template, whose guest has not
    booted yet). ``generation`` tells
    the processes of one node apart while one takes over from the other.
    """

    def one(booted: BootedNode) -> NodeRecord:
        node = booted.node
        with nics_of(boot, node, namespace, generation=generation) as nics:
            own = spec(boot, booted, nics=nics, memory=memory[node.name], generation=generation)
            own = attrs.evolve(
                own,
                incoming=incoming,
                booted=incoming and given is None,
                given=(given or {}).get(node.name, ""),
            )
            started = process.start(
                own,
                runtime_dir=runtime_dir(boot.cluster),
                stderr=qemu_log(own.console_log),
            )
        return NodeRecord(
            name=node.name,
            role=node.role,
            pid=started.process.pid,
            started=started.process.started,
            forwards=forward_ports(namespace, booted),
            generation=generation,
        )

    _private_dir(boot.cluster, CONSOLES)
    futures: list[Future[NodeRecord]] = []
    try:
        with ThreadPoolExecutor(max_workers=8) as pool:
            futures += (pool.submit(one, booted) for booted in boot.nodes)
        return tuple(future.result() for future in futures)
    except BaseException:
        there = [
            future for future in futures if not future.cancelled() and future.exception() is None
        ]
        end([future.result().process for future in there], grace=0)
        raise


@contextmanager
def nics_of(
    boot: BootedCluster,
    node: Node,
    namespace: Namespace,
    *,
    generation: int = 0,
) -> Iterator[tuple[TapNic, ...]]:
    """The interfaces of a node, for a QEMU that is started within the block: it has copies of
    their descriptors then.
    """
    nics: list[TapNic] = []
    try:
        for nic in node.nics:
            nics.append(_nic(boot, namespace, node.number, nic, generation))
        yield tuple(nics)
    finally:
        for made in nics:
            os.close(made.fd)


def forward_ports(namespace: Namespace, booted: BootedNode) -> dict[str, int]:
    """Open the ports of the host that lead to a node, those that are not open yet; by name."""
    guest = booted.management_address
    return {
        forward.name: namespace.forward(guest, forward.guest_port, preferred=forward.preferred)
        for forward in booted.forwards
    }


def layers_argument(names: Iterable[str]) -> str:
    """Return what tells a guest the names of its layers, lowest first."""
    return LAYERS + ",".join(name.replace("/", "-") for name in names)


def layers_of(boot: BootedCluster, booted: BootedNode) -> tuple[tuple[str, Path], ...]:
    """Return name and image of each layer of a node, lowest first."""
    own = image_path(boot.cluster, booted.node.name)
    return tuple((disk.layer, disk.path if disk.key else own) for disk in booted.disks)


def spec(
    boot: BootedCluster,
    booted: BootedNode,
    *,
    memory: Memory,
    nics: tuple[TapNic, ...] = (),
    generation: int = 0,
    layers: Sequence[tuple[str, Path]] | None = None,
) -> MachineSpec:
    """Return the VM of a node, to be booted. ``layers`` (as `layers_of` returns them) replace its
    own.
    """
    name, node = boot.cluster, booted.node
    layers = layers_of(boot, booted) if layers is None else layers
    return MachineSpec(
        name=f"{name}/{node.name}",
        cpus=boot.accel.cpus(node.cpus),
        memory=memory,
        accel=boot.accel,
        kernel=cache_dir().absolute() / boot.kernel,
        initrd=cache_dir().absolute() / boot.initrd,
        cmdline=" ".join(
            [
                *booted.kernel_args,
                layers_argument(name for name, _ in layers),
                *volumes.argument(booted.volumes),
            ]
        ),
        images=tuple(DiskImage(path=path, size=path.stat().st_size) for _, path in layers),
        nics=nics,
        sockets=sockets_of(name, node.name, generation),
        console_log=state_dir(name) / CONSOLES / f"{node.name}.log",
        pidfile=runtime_dir(name) / f"{node.name}.{generation}.pid",
        disks=tuple(
            Disk(path=volume_path(name, node.name, volume.name), serial=volume.name)
            for volume in booted.volumes
        ),
        extra=booted.qemu_args,
    )


def wait_booted(cluster: Cluster, nodes: Iterable[str], progress: Progress) -> None:
    """Return when the agents of these guests answer; `MachineError` with the end of the console
    of one that died or says nothing. One that cannot continue is reset, once. From then on a guest
    that reboots comes back by itself.
    """
    waiting = list(nodes)
    reset: set[str] = set()
    deadline = time.monotonic() + BOOT_SECONDS
    while waiting:
        for name in list(waiting):
            if not cluster.alive(name):
                raise machine_error(
                    f"{name}: the VM no longer exists",
                    cluster.console_log(name),
                    hint="the end of its console shows how far it got",
                )
            log = tail(cluster.console_log(name), 1).strip()
            progress.item(name, log[:70] or "power on")
            if name not in reset and is_stalled(cluster.console_log(name)):
                reset.add(name)
                progress.note(f"{name}: a CPU of the guest lost its timer: trying again")
                with Qmp(cluster.sockets(name).qmp, name) as qmp:
                    qmp.reset()
            try:
                cluster.agent(name).wait(0.0)
            except MachineError as error:
                if time.monotonic() > deadline:
                    raise machine_error(
                        f"{name}: the guest does not answer {BOOT_SECONDS:.0f} s after its start",
                        cluster.console_log(name),
                        hint="the end of its console shows how far it got",
                    ) from error
                continue
            waiting.remove(name)
            progress.finish(name)
            with Qmp(cluster.sockets(name).qmp, name) as qmp:
                qmp.survive_reboots()
        time.sleep(0.2)


def networks(boot: BootedCluster) -> Namespace:
    """Return the cluster's namespace with its bridges and routes."""
    namespace = Namespace.start(runtime_dir(boot.cluster))
    # A guest may write to its console for ever.
    consoles = _private_dir(boot.cluster, CONSOLES)
    namespace.bound(consoles.absolute(), most=_LONGEST_CONSOLE)
    host = HOST_PART
    for network in boot.networks:
        ipv4, ipv6 = f"{address(network.index, host)}/24", f"{host_ipv6(network.index, host)}/120"
        namespace.bridge(
            f"net{network.index}",
            mac=f"02:78:6b:38:{network.index:02x}:{host:02x}",
            mtu=network.mtu,
            addresses=(ipv4, ipv6) if network.index and has_ipv6() else (ipv4,),
        )
    lead_outside(boot, namespace)
    for prefix in boot.routes:
        route(boot, namespace, prefix)
    return namespace


def lead_outside(boot: BootedCluster, namespace: Namespace, *, again: bool = False) -> None:
    """Let the VMs reach what `cluster.outside` says; ``again``: in place of what it said so far."""
    lab = (*(network.ipv4 for network in boot.networks), *boot.routes)
    place = runtime_dir(boot.cluster)
    outside.lead(namespace, place, boot.outside, lab, proxy=boot.proxy, again=again)


def route(boot: BootedCluster, namespace: Namespace, prefix: str) -> None:
    """Let a prefix lie behind the first router."""
    router = next(planned.node for planned in boot.nodes if planned.node.role == "router")
    namespace.route(prefix, via=address(2, router.number, ipv6=":" in prefix))


def _nic(
    boot: BootedCluster,
    namespace: Namespace,
    number: int,
    nic: Nic,
    generation: int,
) -> TapNic:
    network = next(network for network in boot.networks if network.index == nic.network)
    name = f"vm{number:03}n{nic.network}g{generation}"
    # By the management network nobody reaches anybody else of the lab.
    isolated = nic.network == 0
    fd = namespace.tap(name, bridge=f"net{nic.network}", mtu=network.mtu, isolated=isolated)
    return TapNic(mac=nic.mac, fd=fd, mtu=network.mtu)


def own_files(planned: PlannedNode, secrets: Sequence[File]) -> list[File]:
    """Return what the own layer of a node has; `PlanError` for a file that is given twice."""
    files = {file.path: file for file in planned.files}
    for secret in secrets:
        if secret.path in files:
            raise PlanError(f"{secret.path} is written twice", where=planned.node.name)
        files[secret.path] = secret
    return list(files.values())


def _private_dir(cluster: str, name: str) -> Path:
    directory = state_dir(cluster) / name
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory
