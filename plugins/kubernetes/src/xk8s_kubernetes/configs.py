"""Configuration files: kubelet, kube-proxy, CNI, and each node's own part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml
from xk8s.context import Context
from xk8s.fragments import merged
from xk8s.overlay import Node

from xk8s_kubernetes import addresses
from xk8s_kubernetes.components import CRI_SOCKET, ETC, PKI
from xk8s_kubernetes.settings import KubernetesSettings


def kubelet_config(ctx: Context) -> str:
    """KubeletConfiguration; fragments "kubernetes.kubelet.config" are merged into it."""
    settings = ctx.settings(KubernetesSettings)
    config: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{PKI}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "systemd",
        "clusterDNS": list(addresses.dns_addresses(ctx)),
        "clusterDomain": settings.cluster_domain,
        "containerRuntimeEndpoint": f"unix://{CRI_SOCKET}",
        "enableProfilingHandler": False,
        # File systems are memory; a node that uses its memory is not to be drained for it.
        "evictionHard": {
            "imagefs.available": "0%",
            "imagefs.inodesFree": "0%",
            "memory.available": "10Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
        },
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "kubeAPIBurst": 200,
        "kubeAPIQPS": 100,
        # Only node ports on 127.0.0.1 would need them.
        "makeIPTablesUtilChains": False,
        "rotateCertificates": False,
        "serializeImagePulls": False,
        "tlsCertFile": f"{PKI}/kubelet.crt",
        "tlsPrivateKeyFile": f"{PKI}/kubelet.key",
        # Looking for the size of every volume, once a minute.
        "volumeStatsAggPeriod": "-1s",
    }
    return _dump(ctx, "kubelet", config)


def proxy_config(ctx: Context) -> str:
    """KubeProxyConfiguration; fragments "kubernetes.proxy.config" are merged into it."""
    settings = ctx.settings(KubernetesSettings)
    config: dict[str, Any] = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": f"{ETC}/kube-proxy.conf"},
        "clusterCIDR": ",".join(addresses.pod_cidrs(ctx)),
        # Leave the limits of the kernel alone: its tables are large enough here.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpCloseWaitTimeout": "0s",
            "tcpEstablishedTimeout": "0s",
        },
        "detectLocalMode": "ClusterCIDR",
        "mode": settings.proxy_mode,
    }
    if settings.proxy_mode == "ipvs":
        config["ipvs"] = {"scheduler": "rr", "strictARP": settings.strict_arp}
    return _dump(ctx, "proxy", config)


def cni_config(ctx: Context, node: Node) -> str:
    """A bridge per node with the node's own range. Masquerading is not the bridge's business
    (a program run per pod): see masquerade.nft.
    """
    settings = ctx.settings(KubernetesSettings)
    network = next(network for network in ctx.networks if network.index == 1)
    ranges = [[{"subnet": cidr}] for cidr in addresses.node_pod_cidrs(ctx, node)]
    routes = [{"dst": "0.0.0.0/0"}] if ctx.ipv4 else []
    routes += [{"dst": "::/0"}] if ctx.ipv6 else []
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        # A pod may reach itself by its Service.
        "hairpinMode": True,
        "ipMasq": False,
        "mtu": settings.pod_mtu or network.mtu,
        "ipam": {"type": "host-local", "dataDir": "/run/cni", "ranges": ranges, "routes": routes},
    }
    backend = "nftables" if settings.proxy_mode == "nftables" else "iptables"
    portmap = {
        "type": "portmap",
        "capabilities": {"portMappings": True},
        "snat": True,
        "backend": backend,
    }
    config = {"cniVersion": "1.0.0", "name": "xk8s", "plugins": [bridge, portmap]}
    return json.dumps(config, indent=2) + "\n"


def node_environment(ctx: Context, node: Node) -> str:
    """Variables for the units; NODE_IP is the first of NODE_IPS."""
    ips = addresses.node_ips(ctx, node)
    return f"NODE_IP={ips[0]}\nNODE_IPS={','.join(ips)}\n"


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


def _dump(ctx: Context, component: str, config: dict[str, Any]) -> str:
    gates = ctx.settings(KubernetesSettings).gates_of(component)
    if gates:
        config["featureGates"] = gates
    point = f"kubernetes.{component}.config"
    for fragment in ctx.fragments(point, Mapping):  # type: ignore[type-abstract]
        config = merged(config, fragment)
    return yaml.safe_dump(config, sort_keys=True, allow_unicode=True)
