from __future__ import annotations

from typing import Any

import pytest
from xk8s.context import Context, IpFamily
from xk8s.errors import UsageError
from xk8s.overlay import Take
from xk8s.pki import Keys
from xk8s.testing import context_of
from xk8s_externalip import loadbalancer, overlay
from xk8s_externalip.settings import ExternalipSettings
from xk8s_kubernetes import Manifest
from xk8s_kubernetes.settings import KubernetesSettings
from xk8s_mconnect.settings import MconnectSettings


def context(
    family: IpFamily, count: int = 2, mconnect: MconnectSettings | None = None, **settings: Any
) -> Context:
    others = (KubernetesSettings(), mconnect or MconnectSettings())
    own = ExternalipSettings(**settings)
    return context_of("externalip", own, *others, family=family, nodes=count)


def written(ctx: Context) -> dict[str, str]:
    return {
        node.name: file.data.decode()
        for node in ctx.nodes
        for file in overlay.xk8s_node_files(ctx, node)
        if file.path.startswith("/etc/systemd/network/20-eth1.network.d/")
    }


def test_only_routers_get_equal_cost_routes_over_all_nodes():
    assert written(context("dual")) == {
        "vm-201": """\
[Route]
Destination=10.0.0.0/24
MultiPathRoute=192.168.1.1
MultiPathRoute=192.168.1.2

[Route]
Destination=1000::/64
MultiPathRoute=1000::1:c0a8:101
MultiPathRoute=1000::1:c0a8:102
"""
    }


def test_a_single_node_is_an_ordinary_gateway():
    assert written(context("ipv4", count=1)) == {
        "vm-201": "[Route]\nDestination=10.0.0.0/24\nGateway=192.168.1.1\n"
    }


@pytest.mark.parametrize(
    ("family", "prefixes", "checks"),
    [
        ("ipv4", ["10.0.0.0/24"], ["externalip 10.0.0.2"]),
        ("ipv6", ["1000::/64"], ["externalip 1000::2"]),
        ("dual", ["10.0.0.0/24", "1000::/64"], ["externalip 10.0.0.2", "externalip 1000::2"]),
    ],
)
def test_clients_are_led_to_the_router_and_every_address_is_checked(family, prefixes, checks):
    ctx = context(family)
    routes = [
        fragment.value
        for fragment in overlay.xk8s_fragments(ctx)
        if fragment.point == "cluster.route"
    ]
    assert routes == prefixes
    assert [check.name for check in overlay.xk8s_checks(ctx)] == ["load balancer", *checks]


def test_the_program_knows_the_pool_and_what_is_not_to_be_given():
    words = loadbalancer.arguments(context("dual"))
    assert [word for word in words if word.startswith(("--pool", "--res", "--on-"))] == [
        "--pool=10.0.0.0/24",
        "--pool=1000::/64",
        # The nodes' own networks are inside of the IPv6 prefix.
        "--reserved=1000::1:c0a8:100/120",
        "--reserved=1000::2:c0a8:200/120",
        "--on-request=10.0.0.2",
        "--on-request=1000::2",
    ]
    words = loadbalancer.arguments(context("ipv4", ipv4="10.96.0.0/12"))
    assert "--reserved=10.96.0.0/16" in words, "the cluster's own Services"


def test_the_control_plane_alone_has_the_program_and_its_key(tmp_path):
    ctx = context("ipv4")
    (layer,) = overlay.xk8s_layers(ctx)
    assert layer.roles == {"control-plane"}
    (take,) = [entry for entry in layer.entries if isinstance(entry, Take)]
    assert take.path == "/usr/bin/kube-loadbalancer"
    unit = next(entry.data.decode() for entry in layer.entries if entry.path.endswith(".service"))
    assert "ExecStart=/usr/bin/kube-loadbalancer \\\n    --server=https://127.0.0.1:6443" in unit
    manifests = [fragment.value for fragment in overlay.xk8s_fragments(ctx)]
    assert any(
        isinstance(manifest, Manifest) and "xk8s:loadbalancer" in manifest.yaml
        for manifest in manifests
    )
    keys = Keys(tmp_path)
    files = {node.name: [f.path for f in overlay.xk8s_secrets(ctx, node, keys)]
             for node in ctx.nodes}  # fmt: skip
    assert files == {
        "vm-001": ["/etc/kubernetes/pki/loadbalancer.crt", "/etc/kubernetes/pki/loadbalancer.key"],
        "vm-002": [],
        "vm-201": [],
    }
    modes = {file.mode for file in overlay.xk8s_secrets(ctx, ctx.nodes[0], keys)
             if file.path.endswith(".key")}  # fmt: skip
    assert modes == {0o600}


def test_switched_off_nothing_of_it_is_there(tmp_path):
    ctx = context("ipv4", load_balancer=False)
    assert list(overlay.xk8s_layers(ctx)) == []
    assert list(overlay.xk8s_secrets(ctx, ctx.nodes[0], Keys(tmp_path))) == []
    points = {fragment.point for fragment in overlay.xk8s_fragments(ctx)}
    assert points == {"cluster.route", "cluster.sysctl"}
    assert [check.name for check in overlay.xk8s_checks(ctx)] == ["externalip 10.0.0.2"]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"ipv4": "10.0.0.0/33"}, "externalip.ipv4"),
        ({"ipv4": "10.0.0.1/24"}, "has host bits set"),
        ({"ipv4": "1000::/64"}, "is IPv6"),
        ({"ipv6": "ten"}, "externalip.ipv6"),
        ({"ipv4": "10.0.1.0/24"}, "10.0.0.2 is not one that the routers route"),
        (
            {"load_balancer": False, "mconnect": MconnectSettings(service="LoadBalancer")},
            "nothing assigns it an address",
        ),
    ],
)
def test_what_cannot_work_is_said_before_anything_boots(settings, why):
    with pytest.raises(UsageError, match=why):
        list(overlay.xk8s_fragments(context("dual", **settings)))
