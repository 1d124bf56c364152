"""Settings of the overlay ``kube-router``."""

from __future__ import annotations

from attrs import frozen
from xk8s.overlay import setting

VERSION = "v2.1.0"


@frozen(kw_only=True)
class KubeRouterSettings:
    """Settings that users can change. The pods' MTU is kubernetes.pod_mtu."""

    dir: str = setting("", "directory with your own kube-router", env="KUBEROUTERD")
    network_policy: bool = setting(True, "enforce NetworkPolicy objects")
    log_level: int = setting(0, "--v of kube-router")
    args: tuple[str, ...] = setting(
        (), "additional arguments: --peer-router-ips=…, --cluster-asn=…"
    )
