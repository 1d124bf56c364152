"""The settings of the core: `cluster` and `plugins`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from attrs import frozen

from xk8s.context import IpFamily
from xk8s.overlay import setting


@frozen(kw_only=True)
class ClusterSettings:
    """The settings of the core, under the name ``cluster``."""

    nodes: int = setting(2, "Kubernetes nodes: vm-001 is the control plane (and a worker)")
    routers: int = setting(1, "routers: vm-201 and on")
    testers: int = setting(0, "testers outside of the cluster: vm-221 and on")
    node_networks: tuple[int, ...] = setting(
        (1,), "networks that nodes have an interface on: 1, or 1,2 for the outside too"
    )
    memory: dict[str, int] = setting(
        {}, "MiB per role or node: control-plane=3072,worker=1024,router=256,vm-002=2048"
    )
    cpus: dict[str, int] = setting({}, "CPUs per role or node: control-plane=4,vm-002=1")
    ip_family: IpFamily = setting("ipv4", "IP family of pods and services: ipv4, ipv6 or dual")
    accel: Literal["auto", "kvm", "tcg"] = setting("auto", "how QEMU runs guests")
    snapshot: bool = setting(True, "keep a snapshot of the Ready cluster, and restore it")
    snapshot_size: int = setting(
        20480, "MiB of disk that the automatic snapshots of all clusters may take; the last stays"
    )
    template: bool = setting(
        True, "start VMs as copies of one that booted up to where nodes begin to differ"
    )
    mtu: int = setting(1500, "MTU of the cluster's networks, 1280 to 9216")
    kernel_args: str = setting("", "more kernel arguments for all VMs, as on a command line")
    qemu_args: str = setting("", "more QEMU arguments for all VMs, quoted as in a shell")


@frozen(kw_only=True)
class PluginSettings:
    """What the user lets plugins do, under the name ``plugins``; see `xk8s.names.allow_list`."""

    allow: tuple[str, ...] = setting(
        ("*",), "distributions whose overlays and verbs may be used, patterns of their names"
    )
    timeout: float = setting(
        60.0, "seconds that a plugin may take to be imported or to answer a hook; 0: any"
    )

    def __attrs_post_init__(self) -> None:
        """ValueError for a time that none is."""
        if not 0 <= self.timeout < math.inf:
            raise ValueError(f"timeout is {self.timeout}, not a number of seconds")


CORE_SETTINGS: Mapping[str, type[Any]] = {"cluster": ClusterSettings, "plugins": PluginSettings}
"""Settings that are no overlay's."""
