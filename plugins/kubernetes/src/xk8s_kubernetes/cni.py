"""What overlays that provide ``cni`` share; the check is in `xk8s_kubernetes.pod_network`.

At the point `PLUGINS` they give artifacts whose members are CNI plugins: /opt/cni/bin has one
owner, which puts those of the user's own directory first. At the point `CHAIN` overlays that lie
on whichever CNI there is give plugins that are called behind the CNI's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml
from xk8s.context import Context
from xk8s.overlay import File, Node

from xk8s_kubernetes import addresses
from xk8s_kubernetes.components import ETC
from xk8s_kubernetes.manifest import Manifest
from xk8s_kubernetes.settings import KubernetesSettings

if TYPE_CHECKING:
    from xk8s.pki import Keys

PLUGINS = "kubernetes.cni.plugins"
"""The point for overlays' own plugins."""

CHAIN = "kubernetes.cni.chain"
"""The point for plugins behind those of a CNI."""


def pod_mtu(ctx: Context, overhead: int = 0) -> int:
    """MTU of pods' interfaces: that of the setting, or what is left of the nodes' network when
    every packet is wrapped in ``overhead`` bytes.
    """
    network = next(network for network in ctx.networks if network.index == 1)
    return ctx.settings(KubernetesSettings).pod_mtu or network.mtu - overhead


def bridge(ctx: Context, node: Node, name: str) -> dict[str, Any]:
    """The plugin ``bridge`` in a configuration list, with the node's ranges of pods. Masquerading
    is not its business (a program run per pod).
    """
    ranges = [[{"subnet": cidr}] for cidr in addresses.node_pod_cidrs(ctx, node)]
    routes = [{"dst": "0.0.0.0/0"}] if ctx.ipv4 else []
    routes += [{"dst": "::/0"}] if ctx.ipv6 else []
    return {
        "type": "bridge",
        "bridge": name,
        "isGateway": True,
        # A pod may reach itself by its Service.
        "hairpinMode": True,
        "ipMasq": False,
        "mtu": pod_mtu(ctx),
        "ipam": {"type": "host-local", "dataDir": "/run/cni", "ranges": ranges, "routes": routes},
    }


def portmap(ctx: Context) -> dict[str, Any]:
    """The plugin for hostPort in a configuration list, by means of what kube-proxy uses too."""
    mode = ctx.settings(KubernetesSettings).proxy_mode
    return {
        "type": "portmap",
        "capabilities": {"portMappings": True},
        "snat": True,
        "backend": "nftables" if mode == "nftables" else "iptables",
    }


def chain(ctx: Context) -> list[dict[str, Any]]:
    """What is behind the plugin of a CNI's own in its configuration list: that for hostPort, then
    those of other overlays.
    """
    more = ctx.fragments(CHAIN, Mapping)  # type: ignore[type-abstract]
    return [portmap(ctx), *map(dict, more)]


def chain_sets(plugin: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a value of the point `CHAIN` sets: a plugin has one configuration. ValueError for one
    that is none.
    """
    name = plugin.get("type")
    if not isinstance(name, str) or not name or "/" in name:
        raise ValueError("a plugin's configuration has its name as 'type'")
    return {f"the CNI plugin {name!r} in the list": plugin}


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
                # flannel writes into the annotations of its Node and ends when there are none.
                "metadata": {"name": node.name, "annotations": {"xk8s.local/pods": "planned"}},
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
