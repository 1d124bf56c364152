"""The overlay ``bridge``: provides ``cni`` with a bridge per node, and routes between them.

Nothing of it runs: what a pod is given is in the CNI configuration, the way to the pods of other
nodes in networkd's. So it is the quickest to start, and what is on the wire is the pods' packets
as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from attrs import evolve
from xk8s import hookimpl
from xk8s.context import Context
from xk8s.overlay import NODE_ROLES, File, Fragment, GuestNeeds, Layer, Node, Overlay, Symlink
from xk8s.render import render_tree
from xk8s_kubernetes import addresses, cni

CONFIG = "/etc/cni/net.d/10-xk8s.conflist"
BRIDGE = "cni0"
_UNIT = "kube-masquerade.service"
_UNITS = {"/etc/kubernetes/masquerade.nft": (_UNIT,)}


@hookimpl
def xk8s_overlay() -> Overlay:
    """The CNI where nobody names one."""
    return Overlay(
        summary="CNI: a bridge per node, routes between them; nothing else runs",
        provides=("cni",),
        requires=("base",),
    )


@hookimpl
def xk8s_guest(ctx: Context) -> GuestNeeds:  # noqa: ARG001
    """Masquerading is a table of nftables."""
    return GuestNeeds(programs=("nft",), roles=NODE_ROLES)


@hookimpl
def xk8s_fragments(ctx: Context) -> Iterator[Fragment]:
    """What pods can expect of it."""
    cni.require_kubernetes(ctx, "bridge")
    yield Fragment(point=cni.NETWORK, value=cni.PodNetwork(overlay="bridge", mtu=cni.pod_mtu(ctx)))


@hookimpl
def xk8s_layers(ctx: Context) -> Iterator[Layer]:
    """Masquerading, the same on every node."""
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
    """The node's range of pods, and the way to those of the others."""
    if node.role not in NODE_ROLES:
        return
    # The container runtime watches the directory.
    yield File(path=CONFIG, data=config(ctx, node).encode(), units=())
    yield File(
        path="/etc/systemd/network/20-eth1.network.d/50-pods.conf",
        data=pod_routes(ctx, node).encode(),
    )


def config(ctx: Context, node: Node) -> str:
    """The configuration list. Masquerading is not the bridge's business (a program run per pod):
    see masquerade.nft.
    """
    ranges = [[{"subnet": cidr}] for cidr in addresses.node_pod_cidrs(ctx, node)]
    routes = [{"dst": "0.0.0.0/0"}] if ctx.ipv4 else []
    routes += [{"dst": "::/0"}] if ctx.ipv6 else []
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        # A pod may reach itself by its Service.
        "hairpinMode": True,
        "ipMasq": False,
        "mtu": cni.pod_mtu(ctx),
        "ipam": {"type": "host-local", "dataDir": "/run/cni", "ranges": ranges, "routes": routes},
    }
    content = {"cniVersion": "1.0.0", "name": "xk8s", "plugins": [bridge, cni.portmap(ctx)]}
    return json.dumps(content, indent=2) + "\n"


def pod_routes(ctx: Context, node: Node) -> str:
    """A networkd drop-in with the way to the pods of every other node."""
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
