"""Names, numbers and addresses of nodes."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xk8s.errors import UsageError
from xk8s.names.core_settings import ClusterSettings
from xk8s.planning.topology import networks, nodes


def test_default_cluster() -> None:
    found = nodes(ClusterSettings())
    assert [(node.name, node.role) for node in found] == [
        ("vm-001", "control-plane"),
        ("vm-002", "worker"),
        ("vm-201", "router"),
    ]
    assert found[0].nic(1).ipv4 == "192.168.1.1/24"
    assert found[2].nic(2).ipv6 == "1000::2:c0a8:2c9/120"
    with pytest.raises(KeyError, match="vm-001 has no interface on network 2"):
        found[0].nic(2)


@given(st.integers(1, 200), st.integers(0, 20), st.integers(0, 28))
def test_no_two_nodes_share_anything(count: int, routers: int, testers: int) -> None:
    settings = ClusterSettings(nodes=count, routers=routers, testers=testers)
    found = nodes(settings)
    nics = [nic for node in found for nic in node.nics]
    for what in ("mac", "ipv4", "ipv6"):
        values = [getattr(nic, what) for nic in nics]
        assert len(set(values)) == len(values)
    nets = {network.index: network for network in networks(settings)}
    for nic in nics:
        assert ipaddress.ip_interface(nic.ipv4).ip in ipaddress.ip_network(nets[nic.network].ipv4)
        assert ipaddress.ip_interface(nic.ipv6).ip in ipaddress.ip_network(nets[nic.network].ipv6)


def test_nodes_are_on_the_outside_too_where_that_is_asked_for() -> None:
    for written in ((1, 2), (2, 1)):
        settings = ClusterSettings(nodes=2, routers=1, testers=1, node_networks=written)
        for node in nodes(settings):
            assert [nic.network for nic in node.nics] == [0, 1, 2]
    first = nodes(settings)[0].nic(2)
    assert (first.ipv4, first.ipv6) == ("192.168.2.1/24", "1000::2:c0a8:201/120")
    assert first.mac == "02:78:6b:38:02:01"


@pytest.mark.parametrize("written", [(), (2,), (0, 1), (1, 1), (1, 2, 3)])
def test_networks_that_nodes_cannot_be_on(written: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"cluster\.node_networks=") as caught:
        nodes(ClusterSettings(node_networks=written))
    assert caught.value.hint == "write 1 or 1,2"


def test_memory_by_node_beats_role() -> None:
    settings = ClusterSettings(memory={"worker": 700, "vm-002": 900}, nodes=3)
    assert [node.memory for node in nodes(settings)][:3] == [2048, 900, 700]


@pytest.mark.parametrize(
    "settings",
    [
        {"nodes": 0},
        {"routers": 21},
        {"memory": {"vm-009": 512}},
        {"memory": {"router": 8}},
        {"cpus": {"worker": 0}},
    ],
)
def test_impossible_clusters(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        nodes(ClusterSettings(**settings))
