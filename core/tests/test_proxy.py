"""The proxy of VMs: what guests are told, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from xk8s.cluster.change.needs_reboot import refuse_plan
from xk8s.cluster.state.booted import planned_boot, read_boot, way_out, write_boot
from xk8s.errors import UsageError
from xk8s.machine.net.outside import Endpoint
from xk8s.machine.qemu.accelerator import decide
from xk8s.names.request import Request
from xk8s.planning.make_plan import make_plan
from xk8s.planning.plan import Plan
from xk8s.planning.proxy import PROXY_FILE

pytestmark = pytest.mark.usefixtures("own_places")


def planned(*sets: str, overlays: tuple[str, ...] = ("debian",)) -> Plan:
    return make_plan(Request(overlays=overlays, sets=sets, environment={}))


def told(plan: Plan) -> dict[str, str]:
    """The variables of all services, for each node the same."""
    texts = {
        file.data.decode() for node in plan.nodes for file in node.files if file.path == PROXY_FILE
    }
    (text,) = texts
    first, line = text.splitlines()
    assert first == "[Manager]"
    words = line.removeprefix("DefaultEnvironment=").strip('"').split('" "')
    return dict(word.split("=", 1) for word in words)


def test_without_a_proxy_guests_are_told_nothing() -> None:
    plan = planned()
    assert not [file for node in plan.nodes for file in node.files if file.path == PROXY_FILE]
    assert way_out(plan) == {"outside": "internet", "proxy": None}


def test_a_proxy_is_told_in_both_spellings_and_not_for_the_lab() -> None:
    plan = planned("cluster.proxy=http://10.1.2.3:3128", "cluster.no_proxy=registry.corp,.corp")
    variables = told(plan)
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        assert variables[name] == variables[name.lower()] == "http://10.1.2.3:3128"
    spared = variables["NO_PROXY"].split(",")
    assert variables["no_proxy"] == variables["NO_PROXY"]
    assert {"localhost", "127.0.0.0/8", "192.168.0.0/24", "192.168.1.0/24", "1000::1:c0a8:100/120",
            "vm-001", "vm-201", "registry.corp", ".corp"} <= {*spared}  # fmt: skip
    assert way_out(plan)["proxy"] == Endpoint("10.1.2.3", 3128)


def test_services_and_pods_of_kubernetes_are_no_proxys_business() -> None:
    sets = ("cluster.proxy=http://10.1.2.3:3128", "kubernetes.cluster_domain=lab.example")
    spared = told(planned(*sets, overlays=("kubernetes", "externalip")))["NO_PROXY"].split(",")
    assert {"10.96.0.0/16", "11.0.0.0/16", ".svc", ".lab.example", "10.0.0.0/24"} <= {*spared}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_a_proxy_of_this_machine_has_another_address_in_guests(host: str) -> None:
    plan = planned(f"cluster.proxy=http://user:pa%20ss@{host}:3128")
    assert told(plan)["http_proxy"] == "http://user:pa%%20ss@192.168.255.2:3128"
    assert way_out(plan)["proxy"] == Endpoint("192.168.255.2", 3128)


@pytest.mark.parametrize(
    "value",
    ["proxy:3128", "socks5://1.2.3.4:1080", "http://", "http://a b:1", "http://1.2.3.4:99999",
     'http://1.2.3.4:1/"\n[Manager]'],
)  # fmt: skip
def test_what_is_no_proxy_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match=r"cluster\.proxy"):
        planned(f"cluster.proxy={value}")


def test_without_an_outside_a_proxy_needs_an_address() -> None:
    with pytest.raises(UsageError, match=r"look proxy\.corp up"):
        planned("cluster.outside=none", "cluster.proxy=http://proxy.corp:3128")
    assert way_out(planned("cluster.outside=none", "cluster.proxy=http://10.1.2.3"))[
        "proxy"
    ] == Endpoint("10.1.2.3", 80)


def test_where_vms_reach_to_is_no_part_of_them() -> None:
    """So a snapshot serves every value, and `apply` changes it without a boot."""
    digests = {planned(f"cluster.outside={value}").digest for value in ("none", "internet", "all")}
    assert len(digests) == 1
    booted = planned_boot(planned("cluster.outside=none"), decide("tcg"), {})
    refuse_plan(
        booted,
        planned("cluster.outside=all", "cluster.accel=tcg", "cluster.proxy=http://10.1.2.3:3128"),
    )
    with pytest.raises(UsageError, match=r"cluster\.outside"):
        planned("cluster.outside=some")


def test_the_way_out_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan = planned("cluster.outside=all", "cluster.proxy=http://10.1.2.3:3128")
    boot = planned_boot(plan, decide("tcg"), {})
    write_boot(boot, tmp_path)
    assert read_boot(tmp_path) == boot
    assert boot.proxy == Endpoint("10.1.2.3", 3128)
