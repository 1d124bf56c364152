"""The overlay ``kube-router``: provides ``cni`` with kube-router on every node.

Pods are on a bridge, packets between the nodes are unmodified. Each node announces its range to the
others by BGP, and to any other BGP peer you configure (``kube-router.args``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from xk8s import hookimpl
from xk8s.context import Context
from xk8s.errors import PlanError
from xk8s.overlay import (
    NODE_ROLES,
    Check,
    File,
    Fragment,
    GuestNeeds,
    KernelNeeds,
    Layer,
    Node,
    Observation,
    Overlay,
    Symlink,
    Take,
)
from xk8s.render import render_text, render_tree
from xk8s_etcd.unit import logged, quote
from xk8s_kubernetes import Manifest, addresses, cni
from xk8s_kubernetes.pod_network import PodNetwork, network_check

from xk8s_kube_router.artifacts import kube_router_artifact
from xk8s_kube_router.observe import observations
from xk8s_kube_router.settings import KubeRouterSettings

if TYPE_CHECKING:
    from xk8s.pki import Keys

CONFIG = "/etc/cni/net.d/10-kuberouter.conflist"
BRIDGE = "kube-bridge"
UNIT = "kube-router.service"
USER = "kube-router"
"""Its identity for the API server: see files/kube-router.yaml for its permissions."""

_PACKAGE = "xk8s_kube_router"
_PROGRAM = "/usr/bin/kube-router"

_TABLES = b"255\tlocal\n254\tmain\n253\tdefault\n0\tunspec\n"

_MODULES = (
    "br_netfilter",
    "ip_set",
    "ip_set_hash_ip",
    "ip_set_hash_ipport",
    "ip_set_hash_net",
    "nft_compat",
    "xt_MASQUERADE",
    "xt_NFLOG",
    "xt_addrtype",
    "xt_comment",
    "xt_conntrack",
    "xt_limit",
    "xt_mark",
    "xt_multiport",
    "xt_physdev",
    "xt_set",
    "xt_tcpudp",
)


@hookimpl
def xk8s_overlay() -> Overlay:
    """Describe a third-party CNI."""
    return Overlay(
        summary="CNI: kube-router, routes by BGP, and NetworkPolicy",
        provides=("cni",),
        requires=("kubernetes",),
        settings=KubeRouterSettings,
    )


@hookimpl
def xk8s_kernel(ctx: Context) -> KernelNeeds:  # noqa: ARG001
    """Return matches and sets of iptables, even if kube-proxy needs none of them."""
    return KernelNeeds(modules=_MODULES, roles=NODE_ROLES)


@hookimpl
def xk8s_guest(ctx: Context) -> GuestNeeds:  # noqa: ARG001
    """Return the programs that it calls."""
    programs = ("ip", "ip6tables", "ipset", "iptables", "iptables-restore", "iptables-save")
    return GuestNeeds(programs=(*programs, "modprobe"), roles=NODE_ROLES)


@hookimpl
def xk8s_fragments(ctx: Context) -> Iterator[Fragment]:
    """Return the objects for the API server."""
    _check_family(ctx)
    yield Fragment(point="kubernetes.manifest", value=cni.node_ranges(ctx))
    role = Manifest(name="20-kube-router", yaml=render_text(_PACKAGE, "kube-router.yaml", ctx))
    yield Fragment(point="kubernetes.manifest", value=role)


@hookimpl
def xk8s_layers(ctx: Context) -> Iterator[Layer]:
    """Return the program separately from its configuration."""
    artifact = kube_router_artifact(ctx.settings(KubeRouterSettings))
    yield Layer(
        name="kube-router",
        roles=NODE_ROLES,
        units=(UNIT,),
        entries=(Take(artifact=artifact, member="kube-router", path=_PROGRAM, mode=0o755),),
    )
    command = logged(_PROGRAM, "/var/log/kube-router.log", map(quote, arguments(ctx)))
    yield Layer(
        name="kube-router-config",
        roles=NODE_ROLES,
        units=(UNIT,),
        entries=(
            *render_tree(_PACKAGE, "node", ctx, command=command),
            # It reads names of routing tables here; Debian has the file in /usr/share.
            File(path="/etc/iproute2/rt_tables", data=_TABLES, units=()),
            Symlink(
                path=f"/etc/systemd/system/multi-user.target.wants/{UNIT}",
                target=f"/etc/systemd/system/{UNIT}",
            ),
        ),
    )


@hookimpl
def xk8s_node_files(ctx: Context, node: Node) -> Iterator[File]:
    """Return the node's CNI configuration, to which kube-router would write otherwise."""
    if node.role in NODE_ROLES:
        plugins = [cni.bridge(ctx, node, BRIDGE), *cni.chain(ctx)]
        content = {"cniVersion": "1.0.0", "name": "kube-router", "plugins": plugins}
        # The container runtime watches the directory.
        yield File(path=CONFIG, data=(json.dumps(content, indent=2) + "\n").encode(), units=())


@hookimpl
def xk8s_secrets(ctx: Context, node: Node, keys: Keys) -> Iterator[File]:
    """Return its kubeconfig."""
    if node.role in NODE_ROLES:
        yield cni.agent_secrets(ctx, node, keys, name="kube-router", user=USER)


@hookimpl
def xk8s_checks(ctx: Context) -> Iterator[Check]:
    """Check that pods of all nodes reach each other."""
    network = PodNetwork(overlay="kube-router", mtu=cni.pod_mtu(ctx), units=(UNIT,))
    yield network_check(ctx, network)


@hookimpl
def xk8s_observe(ctx: Context) -> Iterator[Observation]:  # noqa: ARG001 - the same everywhere
    """Return its log, and the sets that implement policies."""
    return observations()


def arguments(ctx: Context) -> tuple[str, ...]:
    """Return kube-router's arguments; the last of repeated ones counts."""
    settings = ctx.settings(KubeRouterSettings)
    return (
        "--auto-mtu=false",
        # Without it, peers that meet by IPv4 exchange no IPv6 routes. It does not wait for nodes
        # that do not exist yet.
        "--bgp-graceful-restart=true",
        "--bgp-graceful-restart-deferral-time=5s",
        # It ends without its permissions, which may take a while; by itself it would wait longer.
        "--cache-sync-timeout=20s",
        "--enable-cni=false",
        f"--enable-ipv4={str(ctx.ipv4).lower()}",
        f"--enable-ipv6={str(ctx.ipv6).lower()}",
        # All nodes are on one network.
        "--enable-overlay=false",
        f"--kubeconfig={cni.agent_config('kube-router')}",
        f"--run-firewall={str(settings.network_policy).lower()}",
        "--run-router=true",
        "--run-service-proxy=false",
        f"--service-cluster-ip-range={','.join(addresses.service_cidrs(ctx))}",
        f"--v={settings.log_level}",
        *settings.args,
    )


def _check_family(ctx: Context) -> None:
    """Refuse IPv6: its BGP identifier is an IPv4 address, and with both families the routes to IPv6
    ranges of pods existed after some starts only.
    """
    if ctx.ip_family != "ipv4":
        raise PlanError(
            f"kube-router is not known to work here with IPv6 (--ip-family {ctx.ip_family})",
            where="kube-router",
            hint="choose --ip-family ipv4, or another CNI: bridge, flannel",
        )
