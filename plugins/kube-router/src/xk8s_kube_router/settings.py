"""Settings of the overlay ``kube-router``."""

from __future__ import annotations

from attrs import frozen
from xk8s.limits import between, each, line
from xk8s.overlay import setting
from xk8s.own_programs import own_programs

VERSION = "v2.1.0"


@frozen(kw_only=True)
class KubeRouterSettings:
    """Settings that users can change. The pods' MTU is kubernetes.pod_mtu."""

    dir: str = setting(
        "",
        "directory with your own kube-router",
        env="KUBEROUTERD",
        pin=own_programs("kube-router"),
    )
    network_policy: bool = setting(True, "enforce NetworkPolicy objects")
    log_level: int = setting(0, "--v of kube-router", limit=between(0, 10))
    args: tuple[str, ...] = setting(
        (),
        "additional arguments: --peer-router-ips=…, --cluster-asn=…",
        limit=each(line(empty=False)),
    )
