"""Checks of the networks that pods ask for."""

from __future__ import annotations

from collections.abc import Iterator

from xk8s.context import Context
from xk8s.overlay import Check
from xk8s_kubernetes import addresses
from xk8s_kubernetes.pod_network import PodNetwork, network_check

from xk8s_multinet.networks import networks, node_prefixes

ANNOTATION = "k8s.v1.cni.cncf.io/networks"
"""That of the Network Plumbing Working Group's standard."""


def checks(ctx: Context) -> Iterator[Check]:
    """Pods that ask for a network reach each other on it."""
    for net in networks(ctx):
        yield network_check(
            ctx,
            PodNetwork(
                overlay="multinet",
                mtu=net.network.mtu,
                name=f"pod network {net.name}",
                interface="net1",
                annotations={ANNOTATION: net.name},
                ranges={
                    node.name: node_prefixes(ctx, net, node)
                    for node in addresses.kubernetes_nodes(ctx)
                },
            ),
        )
