from __future__ import annotations

import re
from typing import Any

import pytest
from xk8s.context import Context, IpFamily
from xk8s.errors import UsageError
from xk8s.names.request import Request
from xk8s.planning.make_plan import make_plan
from xk8s.testing import context_of
from xk8s_frr import checks, overlay, peers
from xk8s_frr.settings import FrrSettings


def context(
    family: IpFamily = "dual",
    announced: tuple[str, ...] = (),
    routers: int = 1,
    count: int = 2,
    **settings: Any,
) -> Context:
    return context_of(
        ("debian", "frr"), FrrSettings(**settings), family=family,
        fragments={"frr.announce": announced}, nodes=count, routers=routers, testers=1,
    )  # fmt: skip


def config(ctx: Context, name: str) -> str:
    (node,) = (node for node in ctx.nodes if node.name == name)
    files = {file.path: file.data.decode() for file in overlay.xk8s_node_files(ctx, node)}
    return files["/etc/frr/frr.conf"]


def test_a_node_calls_every_router_in_each_family():
    said = config(context(routers=2), "vm-002")
    assert "router bgp 64512" in said
    assert "bgp router-id 192.168.1.2" in said
    assert re.findall(r"^ neighbor (\S+) peer-group (routers\d)$", said, re.M) == [
        ("192.168.1.201", "routers4"),
        ("192.168.1.202", "routers4"),
        ("1000::1:c0a8:1c9", "routers6"),
        ("1000::1:c0a8:1ca", "routers6"),
    ]
    assert "remote-as 64513" in said
    assert said.count("redistribute connected route-map LOOPBACK") == 2
    assert "listen" not in said


def test_a_router_takes_calls_so_that_more_nodes_change_nothing_on_it():
    said = config(context(), "vm-201")
    assert re.findall(r"^ bgp listen range (\S+) peer-group (\S+)$", said, re.M) == [
        ("192.168.1.0/24", "nodes4"),
        ("192.168.2.0/24", "testers4"),
        ("1000::1:c0a8:100/120", "nodes6"),
        ("1000::2:c0a8:200/120", "testers6"),
    ]
    assert said == config(context(count=9), "vm-201")
    assert re.findall(r"^  network (\S+)$", said, re.M) == [
        "192.168.2.0/24",
        "1000::2:c0a8:200/120",
    ]
    assert "redistribute" not in said


def test_a_tester_calls_routers_from_outside():
    said = config(context("ipv4"), "vm-221")
    assert " neighbor 192.168.2.201 peer-group routers4" in said
    assert "192.168.1.201" not in said
    assert "ipv6 unicast" not in said


def test_nodes_announce_what_other_overlays_say_in_its_family():
    said = config(context(announced=("10.0.0.0/24", "1000::/64")), "vm-001")
    ipv4, ipv6 = re.findall(r"address-family (.*?)exit-address-family", said, re.S)
    assert "network 10.0.0.0/24" in ipv4
    assert "1000::" not in ipv4
    assert "network 1000::/64" in ipv6
    outside = config(context(announced=("10.0.0.0/24",)), "vm-221")
    assert not re.search(r"^  network ", outside, re.M)


@pytest.mark.parametrize(
    ("family", "addresses"),
    [("ipv4", ["10.0.1.1/32"]), ("ipv6", ["1000:0:0:1::1/128"]),
     ("dual", ["10.0.1.1/32", "1000:0:0:1::1/128"])],
)  # fmt: skip
def test_anycast_is_on_nodes_alone_and_clients_are_led_to_the_router(family, addresses):
    ctx = context(family)
    for node in ctx.nodes:
        files = {file.path: file.data.decode() for file in overlay.xk8s_node_files(ctx, node)}
        text = files.get("/etc/systemd/network/60-frr-lo.network", "")
        wanted = addresses if node.number < 200 else []
        assert re.findall(r"^Address=(.*)$", text, re.M) == wanted
    given = [(fragment.point, fragment.value) for fragment in overlay.xk8s_fragments(ctx)]
    assert ("debian.packages", "frr") in given
    assert [value for point, value in given if point == "cluster.route"] == addresses


def test_hold_time_is_three_keepalives():
    assert " timers bgp 3 9" in config(context(), "vm-001")
    assert " timers bgp 10 30" in config(context(hold=30), "vm-201")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"anycast": ("10.0.1.0/24",)}, "frr.anycast"),
        ({"anycast": ("ten",)}, "frr.anycast"),
        ({"hold": 2}, "frr.hold=2"),
        ({"nodes_as": 0}, "not an AS number"),
        ({"nodes_as": 64513}, "must differ"),
    ],
)
def test_what_bgpd_would_refuse_is_said_before_anything_boots(settings, why):
    with pytest.raises(UsageError, match=why):
        FrrSettings(**settings)


def test_without_a_router_there_is_nobody_to_peer_with():
    request = Request(overlays=("debian", "frr"), environment={}, sets=("cluster.routers=0",))
    with pytest.raises(UsageError, match="needs a router"):
        make_plan(request)


def test_next_hops_of_one_way_of_several_and_of_none():
    one = '[{"dst":"10.0.1.1","gateway":"192.168.1.1","dev":"eth1","protocol":"bgp"}]'
    several = (
        '[{"dst":"10.0.1.1","nhid":25,"protocol":"bgp","metric":20,"flags":[],"nexthops":'
        '[{"gateway":"192.168.1.1","dev":"eth1","weight":1,"flags":[]},'
        '{"gateway":"192.168.1.2","dev":"eth1","weight":1,"flags":[]}]}]'
    )
    assert checks.next_hops(one) == {"192.168.1.1"}
    assert checks.next_hops(several) == {"192.168.1.1", "192.168.1.2"}
    assert checks.next_hops("[]") == checks.next_hops("") == set()


def test_who_is_expected_where():
    ctx = context(routers=2)
    router, tester = ctx.by_role("router")[0], ctx.by_role("tester")[0]
    assert checks.gateways(ctx, router, 4) == {"192.168.1.1", "192.168.1.2"}
    assert checks.gateways(ctx, tester, 6) == {"1000::2:c0a8:2c9", "1000::2:c0a8:2ca"}
    assert peers.neighbours(ctx, router, 4) == {
        "192.168.1.1": "vm-001", "192.168.1.2": "vm-002", "192.168.2.221": "vm-221",
    }  # fmt: skip


def planned(*overlays: str) -> dict[str, dict[str, str]]:
    request = Request(overlays=overlays, environment={}, sets=("cluster.ip_family=dual",))
    plan = make_plan(request)
    return {
        planned_node.node.name: {file.path: file.data.decode() for file in planned_node.files}
        for planned_node in plan.nodes
    }


def test_with_frr_nodes_have_no_static_way_to_the_outside():
    path = "/etc/systemd/network/20-eth1.network"
    assert "Destination=192.168.2.0/24" in planned("debian")["vm-001"][path]
    with_frr = planned("debian", "frr")["vm-001"][path]
    assert "192.168.2." not in with_frr
    assert "1000::2:" not in with_frr


def test_with_frr_virtual_addresses_are_announced_and_not_static():
    static = "/etc/systemd/network/20-eth1.network.d/externalip.conf"
    overlays = ("kubernetes", "containerd", "externalip")
    assert static in planned(*overlays)["vm-201"]
    found = planned(*overlays, "frr")
    assert static not in found["vm-201"]
    for node in ("vm-001", "vm-002"):
        announced = re.findall(r"^  network (\S+)$", found[node]["/etc/frr/frr.conf"], re.M)
        assert announced == ["10.0.0.0/24", "1000::/64"]
