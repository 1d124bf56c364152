"""The settings of the core: `cluster` and `plugins`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import frozen

from xk8s.context import IpFamily
from xk8s.limits import between, each, line, matching, table
from xk8s.overlay import setting

MAX_NODES = 200
FIRST_ROUTER = 201
FIRST_TESTER = 221
"""Numbers of VMs: nodes from 1, routers and testers from these."""

_NODE_OR_ROLE = matching("[a-z][a-z-]{0,20}|vm-[0-9]{3}", "a role, or a node such as vm-002")


@frozen(kw_only=True)
class ClusterSettings:
    """The settings of the core, under the name ``cluster``."""

    nodes: int = setting(
        2,
        "number of Kubernetes nodes: vm-001 is the control plane (and a worker)",
        limit=between(1, MAX_NODES),
    )
    routers: int = setting(
        1, "number of routers, from vm-201", limit=between(0, FIRST_TESTER - FIRST_ROUTER)
    )
    testers: int = setting(
        0,
        "number of testers outside of the cluster, from vm-221",
        limit=between(0, 249 - FIRST_TESTER),
    )
    node_networks: tuple[int, ...] = setting(
        (1,),
        "networks on which nodes have an interface: 1, or 1,2 to include the outside",
        limit=each(between(0, 250)),
    )
    memory: dict[str, int] = setting(
        {},
        "MiB per role or node, e.g. worker=2048,vm-003=3072; "
        "default: control-plane=2048,worker=1024,router=256,tester=256",
        limit=table(_NODE_OR_ROLE, between(128, 4 << 20)),
    )
    cpus: dict[str, int] = setting(
        {},
        "CPUs per role or node, e.g. control-plane=4,vm-002=1; "
        "default: control-plane=2, all others 1",
        limit=table(_NODE_OR_ROLE, between(1, 64)),
    )
    ip_family: IpFamily = setting("ipv4", "IP family of pods and Services: ipv4, ipv6 or dual")
    accel: Literal["auto", "kvm", "tcg"] = setting("auto", "how QEMU runs guests")
    snapshot: bool = setting(True, "save a snapshot of the Ready cluster, and restore it")
    snapshot_size: int = setting(
        20480,
        "MiB of disk space for the automatic snapshots of all clusters; the latest is always kept",
        limit=between(0, 1 << 30),
    )
    template: bool = setting(
        True, "start VMs as copies of one that booted up to the point where nodes begin to differ"
    )
    mtu: int = setting(1500, "MTU of the cluster's networks", limit=between(1280, 9216))
    outside: Literal["none", "internet", "all"] = setting(
        "internet",
        "what VMs reach outside of the cluster: nothing (none), public addresses and DNS "
        "(internet), or everything that this machine reaches, its own 127.0.0.1 included (all)",
        guard=lambda value: value == "all",
    )
    proxy: str = setting(
        "",
        "HTTP proxy of the VMs, http://HOST:PORT, for images and all else that they fetch; "
        "they reach it with each value of outside, also on this machine's 127.0.0.1",
        limit=line(1024),
        guard=bool,
    )
    no_proxy: tuple[str, ...] = setting(
        (),
        "prefixes, names and .domains to be reached without the proxy, beside the cluster's own",
        limit=each(matching(r"[A-Za-z0-9.:/*_-]{1,253}", "a prefix, a name or a .domain")),
    )
    kernel_args: str = setting(
        "", "additional kernel arguments for all VMs, as on a command line", limit=line(1024)
    )
    qemu_args: str = setting(
        "",
        "additional QEMU arguments for all VMs, quoted as in a shell",
        limit=line(16384),
        guard=bool,
    )


@frozen(kw_only=True)
class PluginSettings:
    """What the user lets plugins do, under the name ``plugins``; see `xk8s.names.allow_list`."""

    allow: tuple[str, ...] = setting(
        ("*",),
        "patterns of names of distributions whose overlays and verbs may be used",
        limit=each(matching(r"[A-Za-z0-9._*?!\[\]-]+", "a pattern of names")),
    )
    timeout: float = setting(
        60.0,
        "seconds that a plugin may take to be imported or to answer a hook; 0: no limit",
        limit=between(0, 86400),
    )


CORE_SETTINGS: Mapping[str, type[Any]] = {"cluster": ClusterSettings, "plugins": PluginSettings}
"""Settings of the core rather than an overlay."""
