"""Common parts of overlays that provide ``cni``; the check is in `xk8s_kubernetes.pod_network`.

To the point `PLUGINS` they contribute artifacts whose members are CNI plugins: /opt/cni/bin has one
owner, which puts those of the user's own directory first. To the point `CHAIN`, overlays that work
with any CNI contribute plugins that are called after the CNI's own.
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
"""The point for plugins after those of a CNI."""


def pod_mtu(ctx: Context, overhead: int = 0) -> int:
    """Return the MTU of pods' interfaces: the setting's, or what remains of the nodes' network if
    every packet is wrapped in ``overhead`` bytes.
    """
    network = next(network for network in ctx.networks if network.index == 1)
    return ctx.settings(KubernetesSettings).pod_mtu or network.mtu - overhead


def bridge(ctx: Context, node: Node, name: str) -> dict[str, Any]:
    """Return the plugin ``bridge`` for a configuration list, with the node's ranges of pods. It
    does not masquerade (that would run a program per pod).
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
    """Return the plugin for hostPort for a configuration list, with the kind of rules that
    kube-proxy uses.
    """
    mode = ctx.settings(KubernetesSettings).proxy_mode
    return {
        "type": "portmap",
        "capabilities": {"portMappings": True},
        "snat": True,
        "backend": "nftables" if mode == "nftables" else "iptables",
    }


def chain(ctx: Context) -> list[dict[str, Any]]:
    """Return what follows a CNI's own plugin in its configuration list: the one for hostPort, then
    those of other overlays.
    """
    more = ctx.fragments(CHAIN, Mapping)  # type: ignore[type-abstract]
    return [portmap(ctx), *map(dict, more)]


def chain_sets(plugin: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a value of the point `CHAIN` sets: a plugin has one configuration. ValueError if
    it is not one.
    """
    name = plugin.get("type")
    if not isinstance(name, str) or not name or "/" in name:
        raise ValueError("a plugin's configuration has its name as 'type'")
    return {f"the CNI plugin {name!r} in the list": plugin}


def node_ranges(ctx: Context) -> Manifest:
    """Write each node's range of pods as ``spec.podCIDRs`` of its Node object: CNIs that ask the
    API server expect that. A missing Node is created; its kubelet finds it and continues.

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
    """Return the path of the kubeconfig of a CNI's program."""
    return f"{ETC}/{name}.conf"


def agent_secrets(ctx: Context, node: Node, keys: Keys, *, name: str, user: str) -> File:
    """Return the kubeconfig of a CNI's program, with the same user on every node; its
    ClusterRoleBinding says what that user may do.
    """
    from xk8s_kubernetes.secrets import agent_kubeconfig  # cryptography is slow to import

    data = agent_kubeconfig(ctx, node, keys, name=name, user=user)
    return File(path=agent_config(name), data=data, mode=0o600)
