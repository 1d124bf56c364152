"""The networks that pods can request: their addresses, and the CNI configuration of each.

Every host part of the VMs' prefixes belongs to a VM, so pods have prefixes of their own on the same
wire: the plan is in docs/reference/network.md.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from attrs import frozen
from xk8s.context import Context
from xk8s.errors import PlanError, UsageError
from xk8s.overlay import Network, Node
from xk8s_kubernetes import addresses

from xk8s_multinet.settings import MultinetSettings

CONF_DIR = "/etc/cni/multinet.d"
STATE_DIR = "/run/multinet"

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_OF_A_NODE = 256
"""Number of addresses: as many as a node has for the first interfaces of its pods."""


@frozen(kw_only=True)
class PodNet:
    """A network, under the name by which pods request it, and the cluster's network beneath it."""

    name: str
    network: Network

    @property
    def interface(self) -> str:
        """The VMs' interface beneath it."""
        return f"eth{self.network.index}"


def networks(ctx: Context) -> tuple[PodNet, ...]:
    """Return the networks of the setting, by name. `UsageError` for an impossible value;
    `PlanError` if nodes have no interface on the network, or if its addresses are also used by
    others.
    """
    wanted = ctx.settings(MultinetSettings).networks
    known = {network.index: network for network in ctx.networks if network.index}
    names: dict[int, str] = {}
    for name, index in sorted(wanted.items()):
        if not _LABEL.fullmatch(name):
            raise UsageError(
                f"multinet.networks: {name!r} is not a name that a pod could request",
                hint="use lower-case letters, digits and - between them, such as net2",
            )
        if index not in known:
            raise UsageError(
                f"multinet.networks: {name}={index} is none of the cluster's networks",
                hint=f"choose one of {', '.join(map(str, known))}",
            )
        if (other := names.setdefault(index, name)) != name:
            raise UsageError(
                f"multinet.networks: {other} and {name} are both network {index}, and would give "
                "the same addresses",
                hint="use one name for each network",
            )
    _check_nodes(ctx, names)
    found = tuple(PodNet(name=names[index], network=known[index]) for index in sorted(names))
    for net in found:
        _check_prefixes(ctx, net)
    return found


def prefixes(ctx: Context, net: PodNet) -> tuple[str, ...]:
    """Return the prefixes of all its pods, one per IP family: 172.18.0.0/16 and 1000::2:0:0/96 on
    network 2.
    """
    index = net.network.index
    ipv4, ipv6 = f"172.{16 + index}.0.0/16", f"1000::{index}:0:0/96"
    return (ipv4,) * ctx.ipv4 + (ipv6,) * ctx.ipv6


def node_prefixes(ctx: Context, net: PodNet, node: Node) -> tuple[str, ...]:
    """Return the prefixes of a node's pods: vm-002 has 172.18.2.0/24 and 1000::2:0:200/120 on
    network 2.
    """
    found = []
    for text in prefixes(ctx, net):
        whole = ipaddress.ip_network(text)
        first = whole.network_address + node.number * _OF_A_NODE
        found.append(str(ipaddress.ip_network((first, whole.max_prefixlen - 8))))
    return tuple(found)


def cni_config(ctx: Context, net: PodNet, node: Node) -> dict[str, Any]:
    """Return the configuration of the plugin that creates the interface, with the node's
    addresses.
    """
    ranges = []
    for whole, own in zip(prefixes(ctx, net), node_prefixes(ctx, net, node), strict=True):
        part = ipaddress.ip_network(own)
        one = {"subnet": whole, "rangeStart": str(part[1]), "rangeEnd": str(part[-2])}
        if part.version == 4:
            # Otherwise it is the prefix's first address, and the route would use that.
            one["gateway"] = "0.0.0.0"  # noqa: S104 - nothing listens there
        ranges.append([one])
    # The VMs' IPv6 addresses are in the pods' prefix, those of IPv4 are beside it.
    routes = [{"dst": net.network.ipv4}] if ctx.ipv4 else []
    return {
        "cniVersion": "1.0.0",
        "name": net.name,
        "type": "macvlan",
        "master": net.interface,
        "mode": "bridge",
        "ipam": {
            "type": "host-local",
            "dataDir": f"{STATE_DIR}/addresses",
            "ranges": ranges,
            "routes": routes,
        },
    }


def near_routes(ctx: Context, net: PodNet) -> str:
    """Return a networkd drop-in for the VMs' interface: the pods are on the same wire."""
    sections = ["# Pods with an interface on this network.\n"]
    sections += [f"[Route]\nDestination={prefix}\n" for prefix in prefixes(ctx, net)]
    return "\n".join(sections)


def _check_nodes(ctx: Context, names: dict[int, str]) -> None:
    for node in addresses.kubernetes_nodes(ctx):
        own = {nic.network for nic in node.nics}
        for index, name in names.items():
            if index not in own:
                raise PlanError(
                    f"{node.name} has no interface on network {index}, which pods should "
                    f"have as {name!r}",
                    where="multinet.networks",
                    hint="give the nodes one: -s cluster.node_networks=1,2",
                )


def _check_prefixes(ctx: Context, net: PodNet) -> None:
    taken = (*addresses.pod_cidrs(ctx), *addresses.service_cidrs(ctx))
    for prefix in prefixes(ctx, net):
        own = ipaddress.ip_network(prefix)
        for text in taken:
            other = ipaddress.ip_network(text)
            if own.version == other.version and own.overlaps(other):
                raise PlanError(
                    f"pods should have addresses of {prefix} on network {net.network.index}, and "
                    f"{text} is the cluster's for its pods or Services",
                    where="multinet.networks",
                    hint="choose other ranges: kubernetes.pod_cidr_ipv4, "
                    "kubernetes.service_cidr_ipv4, and those of IPv6",
                )
