"""The overlay ``bridge``: provides ``cni`` with a bridge per node, and routes between them.

No program runs: what a pod is given is in the CNI configuration, the routes to the pods of other
nodes are in networkd's. So it starts fastest, and the pods' packets are on the wire unmodified.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from attrs import evolve
from xk8s import hookimpl
from xk8s.context import Context
from xk8s.overlay import NODE_ROLES, Check, File, GuestNeeds, Layer, Node, Overlay, Symlink
from xk8s.render import render_tree
from xk8s_kubernetes import addresses, cni
from xk8s_kubernetes.pod_network import PodNetwork, network_check

CONFIG = "/etc/cni/net.d/10-xk8s.conflist"
BRIDGE = "cni0"
_UNIT = "kube-masquerade.service"
_UNITS = {"/etc/kubernetes/masquerade.nft": (_UNIT,)}


@hookimpl
def xk8s_overlay() -> Overlay:
    """Describe the default CNI."""
    return Overlay(
        summary="CNI: a bridge per node, routes between them; nothing else runs",
        provides=("cni",),
        requires=("kubernetes",),
    )


@hookimpl
def xk8s_guest(ctx: Context) -> GuestNeeds:  # noqa: ARG001
    """Require nftables, for masquerading."""
    return GuestNeeds(programs=("nft",), roles=NODE_ROLES)


@hookimpl
def xk8s_layers(ctx: Context) -> Iterator[Layer]:
    """Return the masquerading rules, the same on every node."""
    files = render_tree("xk8s_bridge", "node", ctx, pod_cidrs=addresses.pod_cidrs(ctx))
    yield Layer(
        name="bridge",
        roles=NODE_ROLES,
        entries=(
            *(evolve(file, units=_UNITS.get(file.path)) for file in files),
            Symlink(
                path=f"/etc/systemd/system/multi-user.target.wants/{_UNIT}",
                target=f"/etc/systemd/system/{_UNIT}",
            ),
        ),
    )


@hookimpl
def xk8s_node_files(ctx: Context, node: Node) -> Iterator[File]:
    """Return the node's range of pods, and the routes to those of the others."""
    if node.role not in NODE_ROLES:
        return
    # The container runtime watches the directory.
    yield File(path=CONFIG, data=config(ctx, node).encode(), units=())
    yield File(
        path="/etc/systemd/network/20-eth1.network.d/50-pods.conf",
        data=pod_routes(ctx, node).encode(),
    )


@hookimpl
def xk8s_checks(ctx: Context) -> Iterator[Check]:
    """Check that pods of all nodes reach each other."""
    network = PodNetwork(overlay="bridge", mtu=cni.pod_mtu(ctx))
    yield network_check(ctx, network)


def config(ctx: Context, node: Node) -> str:
    """Return the configuration list; masquerading is in masquerade.nft."""
    plugins = [cni.bridge(ctx, node, BRIDGE), *cni.chain(ctx)]
    content = {"cniVersion": "1.0.0", "name": "xk8s", "plugins": plugins}
    return json.dumps(content, indent=2) + "\n"


def pod_routes(ctx: Context, node: Node) -> str:
    """Return a networkd drop-in with routes to the pods of every other node."""
    sections = ["# The pods of the other nodes.\n"]
    for other in addresses.kubernetes_nodes(ctx):
        if other.name == node.name:
            continue
        cidrs = addresses.node_pod_cidrs(ctx, other)
        ips = addresses.node_ips(ctx, other)
        sections += [
            f"[Route]\nDestination={cidr}\nGateway={ip}\n"
            for cidr, ip in zip(cidrs, ips, strict=True)
        ]
    return "\n".join(sections)
