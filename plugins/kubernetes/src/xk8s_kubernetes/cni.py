"""What overlays that provide ``cni`` share, and the two points at which they tell about themselves.

At `PLUGINS` they give artifacts whose members are CNI plugins: /opt/cni/bin has one owner, which
puts those of the user's own directory first. At `NETWORK` they say what pods can expect; the check
of the pods' network is made of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from attrs import frozen
from xk8s.context import Context
from xk8s.errors import PlanError
from xk8s.overlay import File, Node

from xk8s_kubernetes import addresses
from xk8s_kubernetes.components import ETC
from xk8s_kubernetes.manifest import Manifest
from xk8s_kubernetes.settings import KubernetesSettings

if TYPE_CHECKING:
    from xk8s.pki import Keys

PLUGINS = "kubernetes.cni.plugins"
"""Point: values are `xk8s.artifacts.model.Artifact`."""

NETWORK = "kubernetes.cni.network"
"""Point: one `PodNetwork`, of the overlay that provides ``cni``."""


@frozen(kw_only=True)
class PodNetwork:
    """What pods can expect: ``mtu`` of their interfaces, in bytes (0: whatever they have);
    ``units`` of the nodes whose logs tell why they have none.
    """

    overlay: str
    mtu: int = 0
    units: tuple[str, ...] = ()


def pod_network(ctx: Context) -> PodNetwork:
    """What the CNI said of itself; one that says nothing is checked all the same."""
    given = ctx.fragments(NETWORK, PodNetwork)
    if len(given) > 1:
        raise PlanError(
            f"overlays {given[0].overlay!r} and {given[1].overlay!r} both say what the pods' "
            "network is",
            where=NETWORK,
            hint="only the overlay that provides 'cni' does",
        )
    return given[0] if given else PodNetwork(overlay="cni")


def require_kubernetes(ctx: Context, overlay: str) -> None:
    """`PlanError` for a CNI alone. That it requires ``kubernetes`` cannot be declared: it is
    kubernetes that requires a CNI.
    """
    if "kubernetes" not in ctx.overlays:
        raise PlanError(
            f"overlay {overlay!r} is a network for pods, and nobody runs pods",
            hint=f"name kubernetes too: xk8s up kubernetes {overlay}",
        )


def pod_mtu(ctx: Context, overhead: int = 0) -> int:
    """MTU of pods' interfaces: that of the setting, or what is left of the nodes' network when
    every packet is wrapped in ``overhead`` bytes.
    """
    network = next(network for network in ctx.networks if network.index == 1)
    return ctx.settings(KubernetesSettings).pod_mtu or network.mtu - overhead


def portmap(ctx: Context) -> dict[str, Any]:
    """The plugin for hostPort in a configuration list, by means of what kube-proxy uses too."""
    mode = ctx.settings(KubernetesSettings).proxy_mode
    return {
        "type": "portmap",
        "capabilities": {"portMappings": True},
        "snat": True,
        "backend": "nftables" if mode == "nftables" else "iptables",
    }


def node_ranges(ctx: Context) -> Manifest:
    """Each node's range of pods as ``spec.podCIDRs`` of its Node object: what CNIs that ask the
    API server expect. A Node that is not there yet is made; its kubelet finds it and goes on.

    The controller manager could hand out ranges, but in the order in which nodes come.
    """
    documents = []
    for node in addresses.kubernetes_nodes(ctx):
        cidrs = list(addresses.node_pod_cidrs(ctx, node))
        documents.append(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": node.name},
                "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs},
            }
        )
    return Manifest(name="10-node-ranges", yaml=yaml.safe_dump_all(documents, sort_keys=True))


def agent_config(name: str) -> str:
    """Where the kubeconfig of a CNI's program is."""
    return f"{ETC}/{name}.conf"


def agent_secrets(ctx: Context, node: Node, keys: Keys, *, name: str, user: str) -> File:
    """The kubeconfig of a CNI's program, the same user on every node; what that may do is for its
    ClusterRoleBinding to say.
    """
    from xk8s_kubernetes.secrets import agent_kubeconfig  # cryptography is slow to import

    data = agent_kubeconfig(ctx, node, keys, name=name, user=user)
    return File(path=agent_config(name), data=data, mode=0o600)
