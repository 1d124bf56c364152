"""Settings of the overlay ``kubernetes``."""

from __future__ import annotations

from typing import Literal

from attrs import frozen
from xk8s.limits import between, domain, each, line, matching, prefix, release, table
from xk8s.overlay import setting
from xk8s.own_programs import own_programs

DEFAULT_VERSION = "v1.36.3"

ProxyMode = Literal["nftables", "ipvs", "iptables"]

CONTROL = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
NODE = ("kubelet", "kube-proxy", "kubectl")

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


_GATES = table(matching(r"[A-Z][A-Za-z0-9]*", "names of gates"))
_GROUPS = table(
    matching(r"[a-z0-9][A-Za-z0-9./_-]*", "API groups"), matching("true|false|", "true or false")
)
_CONTROLLER = matching(r"\*|-?[a-z0-9-]+", "*, NAME or -NAME")
_ARGUMENTS = each(line(empty=False))


def _pin_plugins(text: str) -> str:
    from xk8s_kubernetes.cni_plugins import pin  # which needs this module

    return pin(text)


@frozen(kw_only=True)
class KubernetesSettings:
    """Settings that users can change. Addresses are planned by `xk8s_kubernetes.addresses`."""

    version: str = setting(DEFAULT_VERSION, "release of Kubernetes, 1.33 or later", limit=release())
    dir: str = setting(
        "",
        "directory with any of your own programs; a release provides the rest",
        env="KUBERNETESD",
        pin=own_programs(*CONTROL, *NODE),
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
        limit=between(0, 65535),
    )
    proxy_mode: ProxyMode = setting("nftables", "how kube-proxy implements Services")
    strict_arp: bool = setting(False, "ipvs: answer ARP only for an interface's own addresses")
    cluster_domain: str = setting("cluster.local", "DNS zone of the cluster", limit=domain())
    service_cidr_ipv4: str = setting(
        "10.96.0.0/16", "addresses of Services", limit=prefix(4, 12, 28)
    )
    service_cidr_ipv6: str = setting(
        "fd00:4000::/112", "IPv6 addresses of Services", limit=prefix(6, 64, 123)
    )
    pod_cidr_ipv4: str = setting(
        "11.0.0.0/16", "addresses of pods, a /24 per node", limit=prefix(4, 8, 23)
    )
    pod_cidr_ipv6: str = setting(
        "1100::/112", "IPv6 addresses of pods, a /120 per node", limit=prefix(6, 16, 119)
    )
    pod_mtu: int = setting(
        0,
        "MTU of pods' interfaces; 0: that of the nodes' networks",
        limit=between(576, 9216, zero=True),
    )
    feature_gates: dict[str, bool] = setting(
        {}, "feature gates of all components: Name=true,…", limit=_GATES
    )
    apiserver_feature_gates: dict[str, bool] = setting(
        {}, "feature gates of kube-apiserver, over those of all", limit=_GATES
    )
    controller_manager_feature_gates: dict[str, bool] = setting(
        {}, "feature gates of kube-controller-manager, over those of all", limit=_GATES
    )
    scheduler_feature_gates: dict[str, bool] = setting(
        {}, "feature gates of kube-scheduler, over those of all", limit=_GATES
    )
    kubelet_feature_gates: dict[str, bool] = setting(
        {}, "feature gates of kubelet, over those of all", limit=_GATES
    )
    proxy_feature_gates: dict[str, bool] = setting(
        {}, "feature gates of kube-proxy, over those of all", limit=_GATES
    )
    log_level: int = setting(1, "--v of all components", limit=between(0, 10))
    controllers: tuple[str, ...] = setting(
        CONTROLLERS, "--controllers of the controller manager", limit=each(_CONTROLLER)
    )
    runtime_config: dict[str, str] = setting(
        {}, "--runtime-config: API groups on or off", limit=_GROUPS
    )
    apiserver_args: tuple[str, ...] = setting(
        (), "additional arguments for kube-apiserver", limit=_ARGUMENTS
    )
    controller_manager_args: tuple[str, ...] = setting(
        (), "additional arguments for kube-controller-manager", limit=_ARGUMENTS
    )
    scheduler_args: tuple[str, ...] = setting(
        (), "additional arguments for kube-scheduler", limit=_ARGUMENTS
    )
    kubelet_args: tuple[str, ...] = setting(
        (), "additional arguments for kubelet", limit=_ARGUMENTS
    )
    proxy_args: tuple[str, ...] = setting(
        (), "additional arguments for kube-proxy", limit=_ARGUMENTS
    )

    def gates_of(self, component: str) -> dict[str, bool]:
        """Return the feature gates of one component ("apiserver", "kubelet", …): its own override
        those for all.
        """
        own: dict[str, bool] = getattr(self, f"{component.replace('-', '_')}_feature_gates")
        return {**self.feature_gates, **own}
