"""Settings of the overlay ``kubernetes``."""

from __future__ import annotations

import ipaddress
from typing import Literal

from attrs import frozen
from xk8s.overlay import setting

DEFAULT_VERSION = "v1.36.3"

ProxyMode = Literal["nftables", "ipvs", "iptables"]

CONTROLLERS = (
    "*",
    # No storage here, nothing to scale by (there is no metrics server), no bootstrap by tokens.
    # Each is a set of watches in the API server and of caches on both sides.
    "-persistentvolume-binder-controller",
    "-persistentvolume-attach-detach-controller",
    "-persistentvolume-expander-controller",
    "-persistentvolumeclaim-protection-controller",
    "-persistentvolume-protection-controller",
    "-volumeattributesclass-protection-controller",
    "-ephemeral-volume-controller",
    "-resourceclaim-controller",
    "-device-taint-eviction-controller",
    "-horizontal-pod-autoscaler-controller",
    "-ttl-controller",
    "-node-ipam-controller",
    "-storageversion-garbage-collector-controller",
    "-storage-version-migrator-controller",
    "-legacy-serviceaccount-token-cleaner-controller",
    "-validatingadmissionpolicy-status-controller",
    "-certificatesigningrequest-cleaner-controller",
)


def _pin_plugins(text: str) -> str:
    from xk8s_kubernetes.cni_plugins import pin  # which needs this module

    return pin(text)


@frozen(kw_only=True)
class KubernetesSettings:
    """Settings that users can change. Addresses are planned by `xk8s_kubernetes.addresses`."""

    version: str = setting(DEFAULT_VERSION, "release of Kubernetes, 1.33 or later")
    dir: str = setting(
        "",
        "directory with any of your own programs; a release provides the rest",
        env="KUBERNETESD",
    )
    allow_skew: bool = setting(
        False, "allow combinations of versions that Kubernetes does not support"
    )
    cni_dir: str = setting(
        "",
        "directory with your own CNI plugins, which replace others of the same name or are added",
        env="CNI_PLUGINS_DIR",
        pin=_pin_plugins,
    )
    host_port: int = setting(
        18080,
        "port on 127.0.0.1 of the host for the API server; a different one if it is taken",
        env="XCLUSTER_K8S_PORT",
    )
    proxy_mode: ProxyMode = setting("nftables", "how kube-proxy implements Services")
    strict_arp: bool = setting(False, "ipvs: answer ARP only for an interface's own addresses")
    cluster_domain: str = setting("cluster.local", "DNS zone of the cluster")
    service_cidr_ipv4: str = setting("10.96.0.0/16", "addresses of Services")
    service_cidr_ipv6: str = setting("fd00:4000::/112", "IPv6 addresses of Services")
    pod_cidr_ipv4: str = setting("11.0.0.0/16", "addresses of pods, a /24 per node")
    pod_cidr_ipv6: str = setting("1100::/112", "IPv6 addresses of pods, a /120 per node")
    pod_mtu: int = setting(0, "MTU of pods' interfaces; 0: that of the nodes' networks")
    feature_gates: dict[str, bool] = setting({}, "feature gates of all components: Name=true,…")
    apiserver_feature_gates: dict[str, bool] = setting(
        {}, "feature gates of kube-apiserver, over those of all"
    )
    controller_manager_feature_gates: dict[str, bool] = setting(
        {}, "feature gates of kube-controller-manager, over those of all"
    )
    scheduler_feature_gates: dict[str, bool] = setting(
        {}, "feature gates of kube-scheduler, over those of all"
    )
    kubelet_feature_gates: dict[str, bool] = setting(
        {}, "feature gates of kubelet, over those of all"
    )
    proxy_feature_gates: dict[str, bool] = setting(
        {}, "feature gates of kube-proxy, over those of all"
    )
    log_level: int = setting(1, "--v of all components")
    controllers: tuple[str, ...] = setting(CONTROLLERS, "--controllers of the controller manager")
    runtime_config: dict[str, str] = setting({}, "--runtime-config: API groups on or off")
    apiserver_args: tuple[str, ...] = setting((), "additional arguments for kube-apiserver")
    controller_manager_args: tuple[str, ...] = setting(
        (), "additional arguments for kube-controller-manager"
    )
    scheduler_args: tuple[str, ...] = setting((), "additional arguments for kube-scheduler")
    kubelet_args: tuple[str, ...] = setting((), "additional arguments for kubelet")
    proxy_args: tuple[str, ...] = setting((), "additional arguments for kube-proxy")

    def __attrs_post_init__(self) -> None:
        """Raise ValueError for ranges that are not networks of their family."""
        for name in ("service_cidr_ipv4", "pod_cidr_ipv4", "service_cidr_ipv6", "pod_cidr_ipv6"):
            kind = ipaddress.IPv4Network if name.endswith("4") else ipaddress.IPv6Network
            try:
                kind(getattr(self, name))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None

    def gates_of(self, component: str) -> dict[str, bool]:
        """Return the feature gates of one component ("apiserver", "kubelet", …): its own override
        those for all.
        """
        own: dict[str, bool] = getattr(self, f"{component.replace('-', '_')}_feature_gates")
        return {**self.feature_gates, **own}
