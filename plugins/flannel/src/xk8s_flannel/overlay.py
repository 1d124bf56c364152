"""The overlay ``flannel``: provides ``cni`` with flanneld on every node.

flanneld is a unit of the node, not a pod: a node has its pod network before it runs any pods, and
`xk8s apply` replaces it within seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from xk8s import hookimpl
from xk8s.context import Context
from xk8s.errors import PlanError
from xk8s.overlay import (
    NODE_ROLES,
    Check,
    Fault,
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
from xk8s_etcd.unit import logged
from xk8s_kubernetes import Manifest, addresses, cni
from xk8s_kubernetes.pod_network import PodNetwork, network_check
from xk8s_kubernetes.settings import KubernetesSettings

from xk8s_flannel.artifacts import flanneld_artifact, plugin_artifact
from xk8s_flannel.faults import FAULTS
from xk8s_flannel.observe import observations
from xk8s_flannel.settings import OVERHEAD, FlannelSettings

if TYPE_CHECKING:
    from xk8s.pki import Keys

CONFIG = "/etc/cni/net.d/10-flannel.conflist"
NETWORK = "/etc/kube-flannel/net-conf.json"
UNIT = "flanneld.service"
USER = "flannel"
"""Its identity for the API server: see files/flannel.yaml for its permissions."""

_PACKAGE = "xk8s_flannel"


@hookimpl
def xk8s_overlay() -> Overlay:
    """Describe a third-party CNI."""
    return Overlay(
        summary="CNI: flannel, a VXLAN between the nodes (or host-gw, ipip, wireguard)",
        provides=("cni",),
        requires=("kubernetes",),
        settings=FlannelSettings,
    )


@hookimpl
def xk8s_kernel(ctx: Context) -> KernelNeeds:
    """Return the tunnel's device, and masquerading with random ports."""
    backend = ctx.settings(FlannelSettings).backend
    tunnel = {"vxlan": ("vxlan",), "ipip": ("ipip",), "wireguard": ("wireguard",), "host-gw": ()}
    rules = () if _nftables(ctx) else ("nft_compat", "xt_MASQUERADE", "xt_comment", "xt_mark")
    return KernelNeeds(
        modules=("nf_tables", "nft_chain_nat", "nft_masq", *tunnel[backend], *rules),
        roles=NODE_ROLES,
    )


@hookimpl
def xk8s_guest(ctx: Context) -> GuestNeeds:  # noqa: ARG001
    """Return both firewall programs: it searches the one for rules to clean up when the other is
    used.
    """
    return GuestNeeds(programs=("iptables", "ip6tables", "nft"), roles=NODE_ROLES)


@hookimpl
def xk8s_fragments(ctx: Context) -> Iterator[Fragment]:
    """Return the plugin, and the objects for the API server."""
    yield Fragment(point=cni.PLUGINS, value=plugin_artifact())
    yield Fragment(point="kubernetes.manifest", value=cni.node_ranges(ctx))
    role = Manifest(name="20-flannel", yaml=render_text(_PACKAGE, "flannel.yaml", ctx))
    yield Fragment(point="kubernetes.manifest", value=role)


@hookimpl
def xk8s_layers(ctx: Context) -> Iterator[Layer]:
    """Return the program separately from its configuration."""
    settings = ctx.settings(FlannelSettings)
    yield Layer(
        name="flannel",
        roles=NODE_ROLES,
        units=(UNIT,),
        entries=(
            Take(
                artifact=flanneld_artifact(settings),
                member="flanneld",
                path="/usr/bin/flanneld",
                mode=0o755,
            ),
        ),
    )
    command = logged("/usr/bin/flanneld", "/var/log/flanneld.log", arguments(ctx))
    yield Layer(
        name="flannel-config",
        roles=NODE_ROLES,
        units=(UNIT,),
        entries=(
            *render_tree(_PACKAGE, "node", ctx, command=command),
            File(path=NETWORK, data=_json(network_config(ctx))),
            # The container runtime watches the directory.
            File(path=CONFIG, data=_json(cni_config(ctx)), units=()),
            Symlink(
                path=f"/etc/systemd/system/multi-user.target.wants/{UNIT}",
                target=f"/etc/systemd/system/{UNIT}",
            ),
        ),
    )


@hookimpl
def xk8s_secrets(ctx: Context, node: Node, keys: Keys) -> Iterator[File]:
    """Return its kubeconfig."""
    if node.role in NODE_ROLES:
        yield cni.agent_secrets(ctx, node, keys, name="flannel", user=USER)


@hookimpl
def xk8s_checks(ctx: Context) -> Iterator[Check]:
    """Check that pods of all nodes reach each other."""
    network = PodNetwork(overlay="flannel", mtu=cni.pod_mtu(ctx, overhead(ctx)), units=(UNIT,))
    yield network_check(ctx, network)


@hookimpl
def xk8s_faults() -> tuple[Fault, ...]:
    """Return faults of pods that start before their network."""
    return FAULTS


@hookimpl
def xk8s_observe(ctx: Context) -> Iterator[Observation]:  # noqa: ARG001 - the same everywhere
    """Return its log, its subnet, and the tunnel's tables."""
    return observations()


def arguments(ctx: Context) -> tuple[str, ...]:
    """Return the arguments of flanneld, in systemd's syntax."""
    return (
        "--iface=eth1",
        "--ip-masq",
        "--kube-subnet-mgr",
        f"--kubeconfig-file={cni.agent_config('flannel')}",
        f"--net-config-path={NETWORK}",
        f"--v={ctx.settings(FlannelSettings).log_level}",
    )


def network_config(ctx: Context) -> dict[str, Any]:
    """Return net-conf.json; a node's part of it comes from its Node object."""
    settings = ctx.settings(FlannelSettings)
    cidrs = {":" in cidr: cidr for cidr in addresses.pod_cidrs(ctx)}
    config: dict[str, Any] = {"EnableIPv4": ctx.ipv4, "EnableNFTables": _nftables(ctx)}
    if ctx.ipv4:
        config["Network"] = cidrs[False]
    if ctx.ipv6:
        config |= {"EnableIPv6": True, "IPv6Network": cidrs[True]}
    backend: dict[str, Any] = {"Type": settings.backend}
    if settings.backend == "vxlan":
        backend |= {"VNI": settings.vni, "Port": settings.port}
    return {**config, "Backend": backend}


def cni_config(ctx: Context) -> dict[str, Any]:
    """Return flannel's own configuration. It sets the MTU, because flanneld always assumes IPv4."""
    mtu = cni.pod_mtu(ctx, overhead(ctx))
    delegate = {"hairpinMode": True, "isDefaultGateway": True, "mtu": mtu}
    return {
        # All options of the plugin.
        "cniVersion": "0.3.1",
        "name": "cbr0",
        "plugins": [{"type": "flannel", "delegate": delegate}, *cni.chain(ctx)],
    }


def overhead(ctx: Context) -> int:
    """Return by how many bytes a packet grows between the nodes. `PlanError` for a backend that
    lacks the IP family.
    """
    backend = ctx.settings(FlannelSettings).backend
    known = OVERHEAD[backend]
    versions = ((4,) if ctx.ipv4 else ()) + ((6,) if ctx.ipv6 else ())
    if missing := [version for version in versions if version not in known]:
        raise PlanError(
            f"flannel's backend {backend} has no IPv{missing[0]}, and the cluster has "
            f"(--ip-family {ctx.ip_family})",
            where="flannel.backend",
            hint="choose vxlan, host-gw or wireguard, or --ip-family ipv4",
        )
    return max(known[version] for version in versions)


def _nftables(ctx: Context) -> bool:
    return ctx.settings(KubernetesSettings).proxy_mode == "nftables"


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
