"""Settings of the overlay ``flannel``."""

from __future__ import annotations

from typing import Literal

from attrs import frozen
from xk8s.limits import between
from xk8s.overlay import setting
from xk8s.own_programs import own_programs

VERSION = "v0.28.10"

Backend = Literal["vxlan", "host-gw", "ipip", "wireguard"]

OVERHEAD: dict[Backend, dict[int, int]] = {
    "vxlan": {4: 50, 6: 70},
    "host-gw": {4: 0, 6: 0},
    "ipip": {4: 20},
    "wireguard": {4: 80, 6: 80},
}
"""Bytes around each packet, by the IP version that carries it; without the versions it lacks."""


@frozen(kw_only=True)
class FlannelSettings:
    """Settings that users can change. The pods' MTU is kubernetes.pod_mtu."""

    dir: str = setting(
        "",
        "directory with your own flanneld (the CNI plugin: kubernetes.cni_dir)",
        env="FLANNELD",
        pin=own_programs("flanneld"),
    )
    backend: Backend = setting("vxlan", "how packets reach the other nodes")
    vni: int = setting(1, "vxlan: the network's identifier", limit=between(1, (1 << 24) - 1))
    port: int = setting(8472, "vxlan: UDP port", limit=between(1, 65535))
    log_level: int = setting(0, "--v of flanneld", limit=between(0, 10))
