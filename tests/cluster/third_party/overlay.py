"""The hooks of the overlay ``my-overlay``. They return values; nothing is done here."""

from __future__ import annotations

import json
from collections.abc import Iterator

from xk8s import hookimpl
from xk8s.context import Context
from xk8s.overlay import NODE_ROLES, Check, File, Fragment, Layer, Node, Overlay
from xk8s.render import render_tree
from xk8s_kubernetes.addresses import node_pod_cidrs
from xk8s_my_overlay.checks import BRIDGE, check_kubelet, check_network
from xk8s_my_overlay.settings import Settings


@hookimpl
def xk8s_overlay() -> Overlay:
    """What it is and needs: it is the network of pods itself, where one has to be chosen."""
    return Overlay(
        summary="few pods per node, on a bridge of our own",
        provides=("cni",),
        requires=("kubernetes",),
        settings=Settings,
    )


@hookimpl
def xk8s_fragments(ctx: Context) -> Iterator[Fragment]:
    """What is merged into KubeletConfiguration."""
    pods = ctx.settings(Settings).pods
    yield Fragment(point="kubernetes.kubelet.config", value={"maxPods": pods})


@hookimpl
def xk8s_layers(ctx: Context) -> Iterator[Layer]:
    """The files below files/all, in all VMs."""
    text = f"{ctx.settings(Settings).pods} pods"
    yield Layer(name="my-overlay", entries=render_tree("xk8s_my_overlay", "all", ctx, text=text))


@hookimpl
def xk8s_node_files(ctx: Context, node: Node) -> Iterator[File]:
    """The CNI configuration: the container runtime takes the one whose name sorts first."""
    if node.role in NODE_ROLES:
        text = json.dumps(cni(ctx, node), indent=2)
        yield File(path="/etc/cni/net.d/05-my-overlay.conflist", data=text.encode())


@hookimpl
def xk8s_checks(ctx: Context) -> Iterator[Check]:
    """What is tried when the cluster is up."""
    yield Check(name="my-overlay kubelet", run=check_kubelet)
    yield Check(name="my-overlay network", run=check_network)


def cni(ctx: Context, node: Node) -> dict[str, object]:
    """Pods on a bridge of another name, with the node's own ranges of addresses."""
    ranges = [[{"subnet": cidr}] for cidr in node_pod_cidrs(ctx, node)]
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]},
    }
    return {"cniVersion": "1.0.0", "name": "my-overlay", "plugins": [bridge]}
