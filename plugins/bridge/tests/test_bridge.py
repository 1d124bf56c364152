from __future__ import annotations

import json
import re
from typing import Any

import pytest
from xk8s.context import Context, IpFamily
from xk8s.names.request import Request
from xk8s.overlay import Node
from xk8s.planning.make_plan import make_plan
from xk8s.testing import context_of
from xk8s_bridge import overlay
from xk8s_kubernetes.settings import KubernetesSettings


def context(family: IpFamily = "ipv4", **settings: Any) -> Context:
    kubernetes = KubernetesSettings(**settings)
    return context_of(("bridge", "kubernetes"), kubernetes, family=family, nodes=3)


def node(ctx: Context, name: str) -> Node:
    return next(node for node in ctx.nodes if node.name == name)


def of_node(ctx: Context, name: str) -> dict[str, str]:
    return {f.path: f.data.decode() for f in overlay.xk8s_node_files(ctx, node(ctx, name))}


@pytest.mark.parametrize("family", ["ipv4", "ipv6", "dual"])
def test_a_node_gives_pods_addresses_of_its_own_range(family, snapshot):
    assert of_node(context(family), "vm-002")[overlay.CONFIG] == snapshot


@pytest.mark.parametrize(("mode", "backend"), [("nftables", "nftables"), ("ipvs", "iptables")])
def test_host_ports_are_made_as_kube_proxy_makes_services(mode, backend):
    config = json.loads(of_node(context(proxy_mode=mode), "vm-001")[overlay.CONFIG])
    assert config["plugins"][1]["backend"] == backend


def test_the_mtu_is_that_of_the_network_or_of_the_setting():
    for settings, mtu in (({}, 1500), ({"pod_mtu": 1400}, 1400)):
        ctx = context(**settings)
        config = json.loads(of_node(ctx, "vm-001")[overlay.CONFIG])
        (check,) = overlay.xk8s_checks(ctx)
        assert config["plugins"][0]["mtu"] == mtu
        assert check.run.keywords["network"].mtu == mtu


def test_every_node_knows_the_way_to_the_pods_of_the_others():
    ctx = context("dual")
    routes = of_node(ctx, "vm-002")["/etc/systemd/network/20-eth1.network.d/50-pods.conf"]
    pairs = re.findall(r"Destination=(\S+)\nGateway=(\S+)", routes)
    assert pairs == [
        ("11.0.1.0/24", "192.168.1.1"),
        ("1100::100/120", "1000::1:c0a8:101"),
        ("11.0.3.0/24", "192.168.1.3"),
        ("1100::300/120", "1000::1:c0a8:103"),
    ]


def test_routers_get_nothing():
    ctx = context()
    assert of_node(ctx, "vm-201") == {}
    assert not any(layer.roles & {"router", "tester"} for layer in overlay.xk8s_layers(ctx))


def test_it_is_the_cni_where_nobody_names_one():
    plan = make_plan(Request(overlays=("kubernetes", "containerd"), environment={}))
    assert [
        (choice.capability, choice.chosen) for choice in plan.choices if choice.capability == "cni"
    ] == [("cni", "bridge")]


def test_it_lies_over_kubernetes_which_needs_it_and_under_what_needs_a_network():
    request = Request(overlays=("bridge", "containerd", "coredns"), environment={})
    order = make_plan(request).ctx.overlays
    assert order.index("kubernetes") < order.index("bridge") < order.index("coredns")
