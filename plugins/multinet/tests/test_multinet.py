from __future__ import annotations

import ipaddress
import itertools
import json
from typing import Any

import pytest
from xk8s.context import Context, IpFamily
from xk8s.errors import PlanError, UsageError
from xk8s.names.core_settings import ClusterSettings
from xk8s.names.request import Request
from xk8s.planning import topology
from xk8s.planning.make_plan import make_plan
from xk8s.planning.plan import Plan
from xk8s.testing import assert_conforms, context_of
from xk8s_kubernetes.settings import KubernetesSettings
from xk8s_multinet import overlay
from xk8s_multinet.networks import networks, node_prefixes, prefixes
from xk8s_multinet.settings import MultinetSettings

BOTH = "cluster.node_networks=1,2"


def context(family: IpFamily = "ipv4", kubernetes: Any = None, **settings: Any) -> Context:
    both = (KubernetesSettings(**(kubernetes or {})), MultinetSettings(**settings))
    return context_of(
        ("bridge", "kubernetes", "multinet"), *both, family=family,
        testers=1, node_networks=(1, 2),
    )  # fmt: skip


def plan(*overlays: str, sets: tuple[str, ...] = (BOTH,)) -> Plan:
    request = Request(
        overlays=("kubernetes", "containerd", "multinet", *overlays), sets=sets, environment={}
    )
    return make_plan(request)


def of_node(ctx: Context, name: str) -> dict[str, str]:
    node = next(node for node in ctx.nodes if node.name == name)
    return {file.path: file.data.decode() for file in overlay.xk8s_node_files(ctx, node)}


@pytest.mark.parametrize("family", ["ipv4", "ipv6", "dual"])
def test_it_conforms_beside_each_cni(family: str) -> None:
    for cni in ("bridge", "flannel"):
        assert_conforms("multinet", cni, sets=(BOTH, f"cluster.ip_family={family}"))


@pytest.mark.parametrize("family", ["ipv4", "ipv6", "dual"])
def test_a_node_gives_addresses_of_its_own_part_of_the_prefix(family: str, snapshot: Any) -> None:
    assert of_node(context(family), "vm-002") == snapshot


def test_no_pod_has_a_vms_address_or_another_nodes() -> None:
    cluster = ClusterSettings(nodes=200, routers=20, testers=28, node_networks=(1, 2))
    every = topology.nodes(cluster)
    ctx = context("dual", networks={"one": 1, "two": 2})
    for net in networks(ctx):
        vms = {
            ipaddress.ip_interface(text).ip
            for node in every
            for nic in node.nics
            for text in (nic.ipv4, nic.ipv6)
        }
        whole = [ipaddress.ip_network(text) for text in prefixes(ctx, net)]
        for number in (0, 1):
            parts = [ipaddress.ip_network(node_prefixes(ctx, net, node)[number]) for node in every]
            for before, after in itertools.pairwise(parts):
                assert not before.overlaps(after)
            for part in parts:
                assert part.subnet_of(whole[number])  # type: ignore[arg-type]
                assert not any(ip in part for ip in vms)


def test_pods_and_vms_of_the_network_are_near_each_other() -> None:
    ctx = context("dual")
    config = json.loads(of_node(ctx, "vm-001")["/etc/cni/multinet.d/net2.conf"])
    subnets = [ipaddress.ip_network(part["subnet"]) for (part,) in config["ipam"]["ranges"]]
    near = [*subnets, *(ipaddress.ip_network(route["dst"]) for route in config["ipam"]["routes"])]
    for node in ctx.nodes:
        nic = node.nic(2)
        for text in (nic.ipv4, nic.ipv6):
            assert any(ipaddress.ip_interface(text).ip in network for network in near)
        routes = of_node(ctx, node.name)["/etc/systemd/network/20-eth2.network.d/multinet.conf"]
        assert "Destination=172.18.0.0/16\n" in routes
        assert "Destination=1000::2:0:0/96\n" in routes
        assert "Gateway" not in routes


def test_routers_and_testers_have_the_way_alone() -> None:
    for name in ("vm-201", "vm-221"):
        assert list(of_node(context(), name)) == [
            "/etc/systemd/network/20-eth2.network.d/multinet.conf"
        ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"Net": 2}, "'Net' is not a name"),
        ({"a/../b": 2}, "is not a name"),
        ({"net0": 0}, "net0=0 is none of the cluster's networks"),
        ({"net3": 3}, "net3=3 is none"),
        ({"a": 2, "b": 2}, "a and b are both network 2"),
    ],
)
def test_networks_that_cannot_be_are_refused(given: dict[str, int], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        networks(context(networks=given))


def test_nodes_that_are_not_on_the_network_are_an_error_that_names_the_setting() -> None:
    with pytest.raises(PlanError, match="vm-001 has no interface on network 2") as caught:
        plan(sets=())
    assert "-s cluster.node_networks=1,2" in caught.value.hint
    assert plan(sets=("multinet.networks=mine=1",)).checks[-1].name == "pod network mine"


@pytest.mark.parametrize(
    "taken", [{"pod_cidr_ipv4": "172.18.0.0/16"}, {"service_cidr_ipv6": "1000::2:0:0/112"}]
)
def test_addresses_that_are_pods_or_services_already_are_refused(taken: dict[str, str]) -> None:
    with pytest.raises(PlanError, match="is the cluster's for its pods or Services"):
        networks(context("dual", taken))


@pytest.mark.parametrize(
    ("cni", "path"),
    [
        ("bridge", "/etc/cni/net.d/10-xk8s.conflist"),
        ("flannel", "/etc/cni/net.d/10-flannel.conflist"),
        ("kube-router", "/etc/cni/net.d/10-kuberouter.conflist"),
    ],
)
def test_it_is_the_last_in_the_list_of_each_cni(cni: str, path: str) -> None:
    made = plan(cni)
    entries = [entry for planned in made.layers for entry in planned.layer.entries]
    entries += [file for node in made.nodes for file in node.files]
    (text, *_) = (entry.data for entry in entries if entry.path == path)  # type: ignore[union-attr]
    plugins = json.loads(text)["plugins"]
    assert plugins[-2]["type"] == "portmap"
    assert plugins[-1] == {
        "type": "multinet",
        "capabilities": {"io.kubernetes.cri.pod-annotations": True},
        "confDir": "/etc/cni/multinet.d",
        "stateDir": "/run/multinet",
    }


def test_what_it_needs_is_where_the_cnis_plugins_are() -> None:
    made = plan()
    (cni,) = (planned.layer for planned in made.layers if planned.layer.name == "cni")
    paths = {entry.path for entry in cni.entries}
    assert {f"/opt/cni/bin/{name}" for name in ("multinet", "macvlan", "host-local")} <= paths


def test_this_machine_reaches_the_pods_by_the_router_where_there_is_one() -> None:
    assert plan().routes == ("172.18.0.0/16",)
    assert plan(sets=(BOTH, "cluster.routers=0")).routes == ()


def test_its_check_is_of_the_interface_that_it_gives() -> None:
    (check,) = overlay.xk8s_checks(context("dual"))
    network = check.run.keywords["network"]
    assert network.interface == "net1"
    assert network.annotations == {"k8s.v1.cni.cncf.io/networks": "net2"}
    assert network.ranges["vm-002"] == ("172.18.2.0/24", "1000::2:0:200/120")
    assert network.mtu == 1500
