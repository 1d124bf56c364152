"""Addresses in the cluster, for every IP family: the one place that knows who has which."""

from __future__ import annotations

import ipaddress

from xk8s.context import Context
from xk8s.errors import UsageError
from xk8s.overlay import NODE_ROLES, Node

from xk8s_kubernetes.settings import KubernetesSettings

API_PORT = 6443
API_FORWARD = "api"
"""Name of the forward on 127.0.0.1 of the host to the API server."""

_PODS_OF_A_NODE = 256
"""A /24 of IPv4 and a /120 of IPv6 are the same number of addresses."""


def kubernetes_nodes(ctx: Context) -> tuple[Node, ...]:
    """Return the nodes of the cluster (not its routers and testers), by number."""
    return ctx.by_role(*NODE_ROLES)


def control_plane(ctx: Context) -> Node:
    """Return the node with the API server."""
    return ctx.by_role("control-plane")[0]


def node_ips(ctx: Context, node: Node) -> tuple[str, ...]:
    """Return the node's addresses in the cluster, on network 1; of a dual-stack one IPv4 is
    first.
    """
    nic = node.nic(1)
    chosen = ([nic.ipv4] if ctx.ipv4 else []) + ([nic.ipv6] if ctx.ipv6 else [])
    return tuple(str(ipaddress.ip_interface(text).ip) for text in chosen)


def api_url(ctx: Context) -> str:
    """Return the URL by which nodes call the API server."""
    address = node_ips(ctx, control_plane(ctx))[0]
    return f"https://{bracketed(address)}:{API_PORT}"


def service_cidrs(ctx: Context) -> tuple[str, ...]:
    """Return ranges of Services, one per IP family."""
    settings = ctx.settings(KubernetesSettings)
    return _chosen(ctx, settings.service_cidr_ipv4, settings.service_cidr_ipv6)


def pod_cidrs(ctx: Context) -> tuple[str, ...]:
    """Return ranges of the pods of all nodes, one per IP family."""
    settings = ctx.settings(KubernetesSettings)
    return _chosen(ctx, settings.pod_cidr_ipv4, settings.pod_cidr_ipv6)


def node_pod_cidrs(ctx: Context, node: Node) -> tuple[str, ...]:
    """Return the node's own ranges: vm-002 has 11.0.2.0/24 and 1100::200/120."""
    found = []
    for text in pod_cidrs(ctx):
        whole = ipaddress.ip_network(text)
        first = whole.network_address + node.number * _PODS_OF_A_NODE
        prefix = whole.max_prefixlen - 8
        found.append(str(ipaddress.ip_network((first, prefix))))
    return tuple(found)


def check_ranges(ctx: Context) -> None:
    """Raise `UsageError` for ranges of pods and Services that overlap each other or the nodes' own
    networks, or have no part for each node.
    """
    taken = [
        (f"network {network.index}", ipaddress.ip_interface(text).network)
        for network in ctx.networks
        for text in (network.ipv4, network.ipv6)
    ]
    for kind, texts in (("pod", pod_cidrs(ctx)), ("service", service_cidrs(ctx))):
        for text in texts:
            whole = ipaddress.ip_network(text)
            key = f"kubernetes.{kind}_cidr_ipv{whole.version}"
            for other, network in taken:
                if whole.version == network.version and whole.overlaps(network):
                    raise UsageError(
                        f"{key}={whole} overlaps {other}: {network}",
                        hint=f"choose another range for {key}",
                    )
            taken.append((key, whole))
    last = max(node.number for node in kubernetes_nodes(ctx))
    for text in pod_cidrs(ctx):
        whole = ipaddress.ip_network(text)
        if whole.num_addresses < (last + 1) * _PODS_OF_A_NODE:
            longest = whole.max_prefixlen - ((last + 1) * _PODS_OF_A_NODE - 1).bit_length()
            raise UsageError(
                f"kubernetes.pod_cidr_ipv{whole.version}={whole} is too small for {last} nodes",
                hint=f"each node has {_PODS_OF_A_NODE} addresses of it, from the second such part "
                f"on: give a prefix of length {longest} or less",
            )


def first_address(cidr: str) -> str:
    """Return the address of the Service ``kubernetes`` in a range of Services."""
    return _address(cidr, 1)


def dns_addresses(ctx: Context) -> tuple[str, ...]:
    """Return addresses of the cluster's DNS Service: 10.96.0.10 and fd00:4000::10."""
    return tuple(
        _address(text, 10 if ipaddress.ip_network(text).version == 4 else 0x10)
        for text in service_cidrs(ctx)
    )


def bracketed(address: str) -> str:
    """Return an address in the form for URLs."""
    return f"[{address}]" if ":" in address else address


def _address(network: str, offset: int) -> str:
    return str(ipaddress.ip_network(network).network_address + offset)


def _chosen(ctx: Context, ipv4: str, ipv6: str) -> tuple[str, ...]:
    return ((ipv4,) if ctx.ipv4 else ()) + ((ipv6,) if ctx.ipv6 else ())
