"""Configuration files: kubelet, kube-proxy, and each node's own part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from xk8s.context import Context
from xk8s.fragments import merged
from xk8s.overlay import Node
from xk8s_images import cri

from xk8s_kubernetes import addresses
from xk8s_kubernetes.components import ETC, PKI
from xk8s_kubernetes.settings import KubernetesSettings


def kubelet_config(ctx: Context) -> str:
    """Return the KubeletConfiguration; fragments "kubernetes.kubelet.config" are merged into it."""
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
        "containerRuntimeEndpoint": f"unix://{cri.SOCKET}",
        "enableProfilingHandler": False,
        # File systems are memory; a node should not be drained because it uses its memory.
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
    """Return the KubeProxyConfiguration; fragments "kubernetes.proxy.config" are merged into it."""
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


def node_environment(ctx: Context, node: Node) -> str:
    """Return variables for the units; NODE_IP is the first of NODE_IPS."""
    ips = addresses.node_ips(ctx, node)
    return f"NODE_IP={ips[0]}\nNODE_IPS={','.join(ips)}\n"


def _dump(ctx: Context, component: str, config: dict[str, Any]) -> str:
    gates = ctx.settings(KubernetesSettings).gates_of(component)
    if gates:
        config["featureGates"] = gates
    point = f"kubernetes.{component}.config"
    for fragment in ctx.fragments(point, Mapping):  # type: ignore[type-abstract]
        config = merged(config, fragment)
    return yaml.safe_dump(config, sort_keys=True, allow_unicode=True)
