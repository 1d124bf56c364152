"""Nodes that are switched on beside running ones: new ones of `scale`, dead ones of `node start`.

They boot from what the plan gives now, from the number, addresses and role that it gives them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import attrs
from attrs import frozen

from xk8s.cluster.change.reboots import boot_ids
from xk8s.cluster.checks.guest_needs import check_guests
from xk8s.cluster.handle import Cluster
from xk8s.cluster.inputs import ClusterInputs
from xk8s.cluster.prepare import Clock
from xk8s.cluster.state.booted import BootedCluster, boot_of
from xk8s.cluster.state.guest_files import GuestFiles, NodeFiles, node_files
from xk8s.cluster.state.node_paths import ram_path, remove_node, remove_node_files
from xk8s.cluster.state.record import Record
from xk8s.cluster.state.secrets import PKI, flat, secrets
from xk8s.cluster.vms import launch
from xk8s.cluster.vms.memory_room import promise
from xk8s.cluster.vms.power_on import power_on
from xk8s.cluster.vms.ram_template import get_templates
from xk8s.cluster.vms.volumes import make_volumes
from xk8s.overlay import File
from xk8s.pki import Keys


@frozen(kw_only=True)
class NewNodes:
    """Nodes of a plan to switch on: ``boot`` has only them, ``own`` their secrets and
    ``files`` what they will have, by name.
    """

    boot: BootedCluster
    own: Mapping[str, Sequence[File]]
    files: dict[str, NodeFiles]

    @property
    def names(self) -> tuple[str, ...]:
        """Return their names, in order."""
        return tuple(planned.node.name for planned in self.boot.nodes)


def new_nodes(
    cluster: Cluster, inputs: ClusterInputs, boot: BootedCluster, names: Collection[str]
) -> NewNodes:
    """Return the nodes of these names, to be part of the cluster that was booted as ``boot``."""
    plan = inputs.plan
    keys = Keys(cluster.state_dir / PKI)
    chosen = [planned for planned in plan.nodes if planned.node.name in names]
    own = {planned.node.name: flat(secrets(plan, planned.node, keys)) for planned in chosen}
    booted = tuple(planned for planned in boot_of(inputs).nodes if planned.node.name in names)
    return NewNodes(
        boot=attrs.evolve(boot, nodes=booted),
        own=own,
        files={
            planned.node.name: node_files(inputs, planned, own[planned.node.name])
            for planned in chosen
        },
    )


def changed_nodes(
    boot: BootedCluster,
    now: GuestFiles,
    *,
    more: NewNodes | None = None,
    less: Collection[str] = (),
) -> tuple[BootedCluster, GuestFiles]:
    """Return what is written down of a cluster, with new nodes and without ``less``."""
    boots = {planned.node.name: planned for planned in boot.nodes}
    files = dict(now.nodes)
    if more is not None:
        boots |= {planned.node.name: planned for planned in more.boot.nodes}
        files |= more.files
    return (
        attrs.evolve(boot, nodes=tuple(boots[name] for name in sorted(boots) if name not in less)),
        attrs.evolve(
            now, key="", nodes={name: node for name, node in files.items() if name not in less}
        ),
    )


def power_on_nodes(
    cluster: Cluster, inputs: ClusterInputs, new: NewNodes, clock: Clock
) -> tuple[Record, NewNodes]:
    """Switch them on and wait until they have booted. Return the record of the cluster with them,
    and what they have. The caller has written down what it is doing; if this raises, processes of
    them may be left.
    """
    record, plan = cluster.record, inputs.plan
    if record.memory == "shared":
        _promise(record.name, new)
    there = {node.name for node in record.nodes}
    for name in new.names:  # of one that died
        (remove_node_files if name in there else remove_node)(record.name, name)
    make_volumes(new.boot)
    launch.write_images(plan, new.own)
    # RAM of the same kind as that of the others.
    templates = {} if record.memory == "anonymous" else get_templates(inputs, new.boot, clock)
    started = power_on(new.boot, cluster.namespace, record.memory, templates, clock)
    others = [node for node in record.nodes if node.name not in new.names]
    nodes = tuple(sorted((*others, *started), key=lambda node: node.name))
    record = attrs.evolve(record, phase="failed", nodes=nodes)
    joined = Cluster(record, plan)
    launch.wait_booted(joined, new.names, clock.progress)
    check_guests(joined, plan.guest, but=joined.absent)
    boots = boot_ids(joined, new.names)
    files = {name: attrs.evolve(node, boot=boots.get(name, "")) for name, node in new.files.items()}
    return record, attrs.evolve(new, files=files)


def _promise(cluster: str, new: NewNodes) -> None:
    """Promise room for their RAM, as far as an earlier VM of them has not left its own."""
    size = sum(
        planned.node.memory << 20
        for planned in new.boot.nodes
        if not ram_path(cluster, planned.node.name).exists()
    )
    if size:
        promise(cluster, size)
