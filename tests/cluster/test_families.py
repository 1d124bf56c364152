"""IPv6 and dual stack, and the other two modes of kube-proxy: real clusters of two nodes.

Family and mode come in pairs, so that two clusters prove both; IPv4 with nftables is the cluster of
`test_kubernetes.py`. In the dual-stack cluster the router learns the virtual addresses by BGP.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from attrs import frozen

from tests.cluster.kubectl import Kubectl, kubectl_of
from tests.cluster.pod_networks import POD_NETWORKS
from tests.cluster.shared import README, Shared
from tests.conftest import Xk8s

pytestmark = pytest.mark.cluster

IPV6 = Shared(
    name="ipv6",
    up=(*README.up, "--ip-family", "ipv6", "-s", "kubernetes.proxy_mode=ipvs"),
)
PODS = 4


@frozen(kw_only=True)
class Case:
    """A cluster: IP family, mode of kube-proxy, the virtual addresses it must have, and where the
    router's ways to them come from.
    """

    family: str
    mode: str
    vips: tuple[str, ...]
    learnt: str
    xk8s: Xk8s
    kubectl: Kubectl

    def guest(self, node: str, *words: str) -> str:
        return self.xk8s("exec", node, "--", *words)


@pytest.fixture(
    scope="module",
    params=[
        (IPV6, "ipv6", "ipvs", ("1000::2",), "static"),
        (POD_NETWORKS, "dual", "iptables", ("10.0.0.2", "1000::2"), "bgp"),
    ],
    ids=["ipv6-ipvs", "dual-iptables-frr"],
)
def case(request: pytest.FixtureRequest, xk8s: Xk8s) -> Iterator[Case]:
    """The running cluster of the pair; `up` has passed all checks of its overlays."""
    shared, family, mode, vips, learnt = request.param
    with shared.running(xk8s) as command:
        if shared is POD_NETWORKS:
            # Its own mode is another one; what is saved of it keeps that.
            command("apply", "-s", f"kubernetes.proxy_mode={mode}", timeout=1200)
        kubectl = kubectl_of(command, shared.name)
        yield Case(
            family=family, mode=mode, vips=vips, learnt=learnt, xk8s=command, kubectl=kubectl
        )


def test_nodes_pods_and_services_have_addresses_of_the_family(case: Case) -> None:
    def family_of(addresses: list[str]) -> str:
        kinds = {"ipv6" if ":" in address else "ipv4" for address in addresses}
        return "dual" if len(kinds) == 2 else kinds.pop()

    def get(*words: str) -> list[str]:
        return case.kubectl("get", *words).split()

    nodes = '-o=jsonpath={.items[*].status.addresses[?(@.type=="InternalIP")].address}'
    assert family_of(get("nodes", nodes)) == case.family
    assert family_of(get("pods", "-o=jsonpath={.items[*].status.podIPs[*].ip}")) == case.family
    for name, namespace in (("mconnect", "default"), ("kube-dns", "kube-system")):
        ips = get("service", name, "-n", namespace, "-o=jsonpath={.spec.clusterIPs[*]}")
        assert family_of(ips) == case.family, name


def test_the_router_leads_virtual_addresses_to_all_nodes(case: Case) -> None:
    prefixes = [("-4", "10.0.0.0/24")] * (case.family == "dual") + [("-6", "1000::/64")]
    for family, prefix in prefixes:
        out = case.guest("vm-201", "ip", "-j", "-d", family, "route", "show", prefix)
        routes = json.loads(out)
        hops = [hop for route in routes for hop in route.get("nexthops", [route])]
        assert len(hops) == 2, (prefix, routes)
        assert {route["protocol"] for route in routes} == {case.learnt}, (prefix, routes)


def test_every_virtual_address_is_reached_from_outside(case: Case) -> None:
    for vip in case.vips:
        where = f"[{vip}]:5001" if ":" in vip else f"{vip}:5001"
        words = ("mconnect", "--address", where, "--nconn", "100", "--json")
        tally = case.xk8s.json(*words, timeout=900)
        assert tally["failed"] == 0, (vip, tally)
        assert len(tally["answers"]) == PODS


def test_kube_proxy_is_in_its_mode_on_every_node(case: Case) -> None:
    for node in ("vm-001", "vm-002"):
        said = case.guest(node, "curl", "--silent", "http://localhost:10249/proxyMode")
        assert said == case.mode
        for vip in case.vips:
            assert backends(case, node, vip) == PODS, (node, vip)


def backends(case: Case, node: str, vip: str) -> int:
    """How many pods the kernel of ``node`` sends connections to ``vip`` to."""
    if case.mode == "ipvs":
        table = case.guest(node, "ipvsadm", "-Ln")
        where = f"[{vip}]:5001" if ":" in vip else f"{vip}:5001"
        found = re.search(rf"^TCP  {re.escape(where)} rr.*\n((?:  -> .*\n)*)", table, re.M)
        assert found, table
        return found[1].count(" Masq ")
    program = "ip6tables-save" if ":" in vip else "iptables-save"
    rules = case.guest(node, program, "-t", "nat")
    external = re.search(rf"-d {vip}/\d+ .*mconnect.* -j (KUBE-EXT-\w+)", rules)
    assert external, rules
    service = re.search(rf"^-A {external[1]} .*-j (KUBE-SVC-\w+)", rules, re.M)
    assert service, rules
    return len(re.findall(rf"^-A {service[1]} .*-j KUBE-SEP-\w+", rules, re.M))


def test_names_are_resolved_to_addresses_of_the_family(case: Case) -> None:
    server = case.kubectl(
        "get", "service", "kube-dns", "-n", "kube-system", "-o=jsonpath={.spec.clusterIP}"
    )
    kinds = {"ipv6": ("AAAA",), "dual": ("A", "AAAA")}[case.family]
    for kind in kinds:
        said = case.guest(
            "vm-002", "drill", f"@{server}", "mconnect.default.svc.cluster.local", kind
        )
        found = re.search(rf"^mconnect\.default\.svc\.cluster\.local\.\s+\d+\s+IN\s+{kind}\s+\S+",
                          said, re.M)  # fmt: skip
        assert found, said
