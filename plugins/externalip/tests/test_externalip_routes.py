from __future__ import annotations

import pytest
from xk8s.config import ClusterSettings
from xk8s.context import Context
from xk8s.topology import networks, nodes
from xk8s_externalip import overlay
from xk8s_externalip.overlay import ExternalipSettings
from xk8s_mconnect.settings import MconnectSettings


def context(family: str, count: int = 2) -> Context:
    cluster = ClusterSettings(nodes=count)
    return Context(
        cluster="t",
        ip_family=family,
        overlays=("externalip",),
        networks=networks(cluster),
        nodes=nodes(cluster),
        all_settings={
            ExternalipSettings: ExternalipSettings(),
            MconnectSettings: MconnectSettings(),
        },
    )


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
    assert [fragment.value for fragment in overlay.xk8s_fragments(ctx)] == prefixes
    assert [check.name for check in overlay.xk8s_checks(ctx)] == checks
