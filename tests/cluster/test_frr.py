"""BGP without Kubernetes: nodes, a router and a tester, of both IP families."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from xk8s_frr.checks import next_hops
from xk8s_frr.settings import FrrSettings

from tests.conftest import Xk8s

pytestmark = pytest.mark.cluster

NAME = ("--name", "bgp")
UP = (*NAME, "up", "debian", "frr", "--nodes", "3", "--routers", "1", "--testers", "1",
      "--ip-family", "dual", "--memory", "384")  # fmt: skip
ROUTER, TESTER = "vm-201", "vm-221"
NODES = {
    f"vm-00{number}": (f"192.168.1.{number}", f"1000::1:c0a8:10{number}") for number in (1, 2, 3)
}
ANYCAST = {4: "10.0.1.1", 6: "1000:0:0:1::1"}
PORT = 7


@pytest.fixture(scope="module")
def cluster(xk8s: Xk8s) -> Iterator[Xk8s]:
    try:
        xk8s(*UP, timeout=900)
        yield xk8s
    finally:
        xk8s(*NAME, "down")
        assert xk8s.left() == []


def guest(cluster: Xk8s, node: str, *words: str) -> str:
    return cluster(*NAME, "exec", node, "--", *words)


def hops(cluster: Xk8s, node: str, address: str) -> set[str]:
    """Where the kernel of a VM sends packets for an address that it has learnt."""
    family, length = ("-6", 128) if ":" in address else ("-4", 32)
    words = ("ip", "-j", family, "route", "show", f"{address}/{length}", "proto", "bgp")
    return next_hops(guest(cluster, node, *words))


def wait(what: Callable[[], object], wanted: object, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while (seen := what()) != wanted:
        assert time.monotonic() < deadline, f"{seen}, not {wanted}"
        time.sleep(0.5)


def all_nodes(version: int) -> set[str]:
    return {addresses[version == 6] for addresses in NODES.values()}


def test_sessions_of_both_families_are_established(cluster: Xk8s) -> None:
    for version in (4, 6):
        said = guest(cluster, ROUTER, "vtysh", "-c", f"show bgp ipv{version} unicast summary json")
        peers = json.loads(said)["peers"]
        assert len(peers) == 4, "three nodes and a tester"
        assert {peer["state"] for peer in peers.values()} == {"Established"}
    assert "bgp routes" in cluster(*NAME, "check", "bgp sessions", "bgp routes")


def test_ways_are_learnt_and_not_static(cluster: Xk8s) -> None:
    for version, address in ANYCAST.items():
        assert hops(cluster, ROUTER, address) == all_nodes(version)
    assert hops(cluster, TESTER, ANYCAST[4]) == {"192.168.2.201"}
    assert hops(cluster, TESTER, ANYCAST[6]) == {"1000::2:c0a8:2c9"}
    # The way back, which is static without frr.
    routes = guest(cluster, "vm-002", "ip", "route", "show", "192.168.2.0/24")
    assert re.search(r"via 192.168.1.201 .*proto bgp", routes), routes
    routes = guest(cluster, "vm-002", "ip", "-6", "route", "show", "1000::2:c0a8:200/120")
    assert re.search(r"via 1000::1:c0a8:1c9 .*proto bgp", routes), routes


def answers(cluster: Xk8s, address: str, count: int = 60) -> Counter[str]:
    """Names of the nodes that answered connections from the tester."""
    loop = f"for i in $(seq {count}); do timeout 5 nc -d -w 3 {address} {PORT} || echo none; done"
    return Counter(guest(cluster, TESTER, "sh", "-c", loop).split())


def test_connections_are_spread_over_all_nodes(cluster: Xk8s) -> None:
    for node in NODES:
        guest(cluster, node, "systemd-run", "--unit=hello", "socat",
              f"TCP6-LISTEN:{PORT},fork,reuseaddr,ipv6only=0", "EXEC:/bin/hostname")  # fmt: skip
    time.sleep(2)
    for address in ANYCAST.values():
        found = answers(cluster, address)
        assert set(found) == set(NODES), found
        assert min(found.values()) >= 6, found


def test_a_node_without_a_link_is_led_to_no_more_and_comes_back(cluster: Xk8s) -> None:
    cluster(*NAME, "net", "link", "vm-002", "eth1", "down")
    for version, address in ANYCAST.items():
        left = all_nodes(version) - {NODES["vm-002"][version == 6]}
        wait(lambda a=address: hops(cluster, ROUTER, a), left)  # type: ignore[misc]
        found = answers(cluster, address, 20)
        assert set(found) == {"vm-001", "vm-003"}, found
    cluster(*NAME, "net", "link", "vm-002", "eth1", "up")
    for version, address in ANYCAST.items():
        wait(lambda a=address: hops(cluster, ROUTER, a), all_nodes(version))  # type: ignore[misc]


def test_a_killed_node_is_sent_to_until_its_hold_time_is_over(cluster: Xk8s) -> None:
    """Its router has nothing but the silence: the link stays up."""
    hop = NODES["vm-002"][0]
    shown = f"ip -4 route show {ANYCAST[4]}/32 proto bgp"
    script = f"while {shown} | grep -q {hop}; do sleep 0.05; done; date +%s.%N"
    noticing = cluster.start(*NAME, "exec", "-n", ROUTER, "--", "sh", "-c", script)
    begun = time.time()
    cluster(*NAME, "node", "kill", "vm-002")
    killed = time.time()
    found = answers(cluster, ANYCAST[4], 5)
    said, _ = noticing.communicate(timeout=300)
    noticed = float(said)
    print(f"routes to a killed node stayed for {noticed - killed:.1f} s; answers then: {found}")
    hold = FrrSettings().hold
    # It counts from the last message, which is up to a third of the time old.
    assert hold * 2 / 3 - 1 < noticed - begun
    assert noticed - killed < hold + 5
    found = answers(cluster, ANYCAST[4], 20)
    assert set(found) == {"vm-001", "vm-003"}, found
    cluster(*NAME, "node", "start", "vm-002", timeout=900)
    for version, address in ANYCAST.items():
        wait(lambda a=address: hops(cluster, ROUTER, a), all_nodes(version))  # type: ignore[misc]
    guest(cluster, "vm-002", "systemd-run", "--unit=hello", "socat",
          f"TCP6-LISTEN:{PORT},fork,reuseaddr,ipv6only=0", "EXEC:/bin/hostname")  # fmt: skip


def test_an_address_on_loopback_is_announced_and_withdrawn(cluster: Xk8s) -> None:
    guest(cluster, "vm-003", "ip", "address", "add", "10.0.2.2/32", "dev", "lo")
    wait(lambda: hops(cluster, TESTER, "10.0.2.2"), {"192.168.2.201"})
    assert hops(cluster, ROUTER, "10.0.2.2") == {"192.168.1.3"}
    guest(cluster, "vm-003", "ip", "address", "del", "10.0.2.2/32", "dev", "lo")
    wait(lambda: hops(cluster, TESTER, "10.0.2.2"), set())


def test_a_restored_cluster_has_its_routes(cluster: Xk8s) -> None:
    cluster(*NAME, "down")
    cluster(*UP, timeout=900)
    for version, address in ANYCAST.items():
        assert hops(cluster, ROUTER, address) == all_nodes(version)
