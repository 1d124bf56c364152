"""Who gives Services their addresses, against a real API server (no VM is needed for that)."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from xk8s.render import render_text
from xk8s_externalip.loadbalancer import USER, program
from xk8s_kubernetes.secrets import CA

from tests.cluster.api_server import Server, api_server, wait_for
from tests.cluster.programs import programs

pytestmark = pytest.mark.cluster

SERVICES = "/api/v1/namespaces/default/services"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with api_server(tmp_path_factory.mktemp("api")) as server:
        server.kubectl("apply", "-f", str(_role(server.root)))
        yield server


def _role(root: Path) -> Path:
    path = root / "role.yaml"
    path.write_text(render_text("xk8s_externalip", "loadbalancer.yaml", None))  # type: ignore[arg-type]
    return path


class Program:
    """The real program with its own certificate, and what it says."""

    def __init__(self, server: Server, *words: str) -> None:
        pair = server.keys.cert(CA, "loadbalancer", common_name=USER)
        assert pair.cert
        pki = server.root / "pki"
        self.log = server.root / "loadbalancer.log"
        self.notify = server.root / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.unlink(missing_ok=True)
        self.socket.bind(str(self.notify))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    programs(program()) / "kube-loadbalancer",
                    f"--server={server.url}",
                    f"--ca={pki / 'ca.crt'}",
                    f"--cert={pki / 'loadbalancer.crt'}",
                    f"--key={pki / 'loadbalancer.key'}",
                    *words,
                ],
                env={**os.environ, "NOTIFY_SOCKET": str(self.notify)},
                stdout=log,
                stderr=log,
            )

    def ready(self, seconds: float = 30) -> None:
        """Wait until it tells systemd that it is."""
        self.socket.settimeout(seconds)
        while self.socket.recv(1000) != b"READY=1":
            pass

    def said(self) -> str:
        return self.log.read_text()

    def end(self) -> int:
        self.process.terminate()
        self.socket.close()
        return self.process.wait(10)


@pytest.fixture
def balancer(server: Server) -> Iterator[Program]:
    one = Program(
        server, "--pool=10.0.0.0/29", "--pool=1000::/64", "--reserved=1000::1:c0a8:100/120",
        "--on-request=10.0.0.2",
    )  # fmt: skip
    try:
        one.ready()
        yield one
    finally:
        assert one.end() == 0
        server.kubectl("delete", "services", "--all", "--wait")


def service(name: str, **spec: Any) -> dict[str, Any]:
    annotations = spec.pop("annotations", {})
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], **spec},
    }


def ips(server: Server, name: str) -> list[str]:
    status = server.api.get(f"{SERVICES}/{name}")["status"]
    return [entry["ip"] for entry in status["loadBalancer"].get("ingress", ())]


def events(server: Server, name: str) -> list[str]:
    """Those of the program: the API server's own repair of addresses makes some as well."""
    uid = server.api.get(f"{SERVICES}/{name}")["metadata"]["uid"]
    found = server.api.get("/api/v1/namespaces/default/events")["items"]
    return [
        f"{event['type']} {event['reason']}: {event['message']}"
        for event in found
        if event["involvedObject"]["uid"] == uid
        and "repair" not in str((event.get("reportingComponent"), event.get("source")))
    ]


def test_addresses_are_given_kept_and_freed(server: Server, balancer: Program) -> None:
    server.kubectl("create", "-f", "-", stdin=service("one"))
    assert wait_for(lambda: ips(server, "one")) == ["10.0.0.1"]
    ingress = server.api.get(f"{SERVICES}/one")["status"]["loadBalancer"]["ingress"]
    assert ingress == [{"ip": "10.0.0.1", "ipMode": "VIP"}]
    server.kubectl("create", "-f", "-", stdin=service("two"))
    # .2 is for who asks for it.
    assert wait_for(lambda: ips(server, "two")) == ["10.0.0.3"]
    asking = service("three", loadBalancerIP="10.0.0.2")
    server.kubectl("create", "-f", "-", stdin=asking)
    assert wait_for(lambda: ips(server, "three")) == ["10.0.0.2"]
    assert wait_for(lambda: events(server, "one")) == [
        "Normal AddressAssigned: addresses: 10.0.0.1"
    ]
    # What the column of kubectl says.
    assert "10.0.0.2" in server.kubectl("get", "service", "three")
    server.kubectl("delete", "service", "one")
    server.kubectl("create", "-f", "-", stdin=service("four"))
    assert wait_for(lambda: ips(server, "four")) == ["10.0.0.1"]
    # No more a load balancer: Kubernetes takes the status, the address is free.
    server.kubectl("patch", "service", "four", "-p", '{"spec": {"type": "ClusterIP"}}')
    server.kubectl("create", "-f", "-", stdin=service("five"))
    assert wait_for(lambda: ips(server, "five")) == ["10.0.0.1"]


def test_of_both_families_and_by_annotation(server: Server, balancer: Program) -> None:
    dual = {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]}
    server.kubectl("create", "-f", "-", stdin=service("any", **dual))
    assert wait_for(lambda: ips(server, "any")) == ["1000::1", "10.0.0.1"]
    wish = {"xk8s.local/load-balancer-ips": "10.0.0.2, 1000:0::2"}
    server.kubectl("create", "-f", "-", stdin=service("asks", annotations=wish, **dual))
    assert wait_for(lambda: ips(server, "asks")) == ["1000::2", "10.0.0.2"]
    # One family less, and the other one stays as it was.
    single = '{"spec": {"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"]}}'
    server.kubectl("patch", "service", "any", "-p", single)
    wait_for(lambda: ips(server, "any") == ["1000::1"])
    # Another wish moves it.
    annotation = "xk8s.local/load-balancer-ips=1000::77"
    server.kubectl("annotate", "service", "any", annotation)
    wait_for(lambda: ips(server, "any") == ["1000::77"])


@pytest.mark.parametrize(
    ("wish", "problem"),
    [
        ("10.0.1.5", "10.0.1.5 is not in the pool 10.0.0.0/29"),
        ("10.0.0.0", "10.0.0.0 is no host's address in 10.0.0.0/29"),
        ("10.0.0.7", "10.0.0.7 is no host's address in 10.0.0.0/29"),
        ("1000::9", "1000::9 is asked for, but the Service has no IPv6"),
        ("10.0.0.4,10.0.0.5", "two IPv4 addresses are asked for: 10.0.0.4,10.0.0.5"),
        ("$(reboot)", '"$(reboot)" is no IP address'),
    ],
)
def test_what_cannot_be_given_is_an_event(
    server: Server, balancer: Program, wish: str, problem: str
) -> None:
    asking = service("wrong", annotations={"xk8s.local/load-balancer-ips": wish})
    server.kubectl("create", "-f", "-", stdin=asking)
    server.kubectl("create", "-f", "-", stdin=service("right"))
    assert wait_for(lambda: ips(server, "right")) == ["10.0.0.1"]
    assert wait_for(lambda: events(server, "wrong")) == [f"Warning NoAddress: {problem}"]
    assert ips(server, "wrong") == []
    assert balancer.said().count(problem) == 1
    server.kubectl("annotate", "service", "wrong", "xk8s.local/load-balancer-ips-")
    assert wait_for(lambda: ips(server, "wrong")) == ["10.0.0.3"]


def test_what_an_external_ip_has_nobody_gets(server: Server, balancer: Program) -> None:
    external = service("external", type="ClusterIP", externalIPs=["10.0.0.1", "10.0.0.3"])
    server.kubectl("create", "-f", "-", stdin=external)
    server.kubectl("create", "-f", "-", stdin=service("any"))
    assert wait_for(lambda: ips(server, "any")) == ["10.0.0.4"]
    asking = service("asks", loadBalancerIP="10.0.0.1")
    server.kubectl("create", "-f", "-", stdin=asking)
    (said,) = wait_for(lambda: events(server, "asks"))
    assert said.endswith("10.0.0.1 is an address of default/external (externalIPs)")
    # Nobody can keep a Service from setting externalIPs: who had the address gets another.
    server.kubectl("patch", "service", "external", "-p", '{"spec": {"externalIPs": ["10.0.0.4"]}}')
    wait_for(lambda: ips(server, "any") not in ([], ["10.0.0.4"]))
    # And what waited for one that is free now has it.
    wait_for(lambda: ips(server, "asks") == ["10.0.0.1"])


def test_of_many_at_once_none_is_twice_and_a_full_pool_says_so(
    server: Server, balancer: Program
) -> None:
    names = [f"many-{number}" for number in range(9)]
    with ThreadPoolExecutor(9) as pool:
        list(pool.map(lambda n: server.kubectl("create", "-f", "-", stdin=service(n)), names))
    # Of eight addresses two are none, and one is kept for who asks.
    wait_for(lambda: sum(bool(ips(server, name)) for name in names) == 5)
    given = [address for name in names for address in ips(server, name)]
    assert sorted(given) == [f"10.0.0.{number}" for number in (1, 3, 4, 5, 6)]
    poor = next(name for name in names if not ips(server, name))
    (said,) = wait_for(lambda: events(server, poor))
    assert said == "Warning NoAddress: no address is free in the pool 10.0.0.0/29"
    rich = next(name for name in names if ips(server, name))
    server.kubectl("delete", "service", rich)
    wait_for(lambda: sum(bool(ips(server, n)) for n in names if n != rich) == 5)
    assert balancer.process.poll() is None


def test_what_is_not_ours_is_left_alone(server: Server, balancer: Program) -> None:
    theirs = service("class", loadBalancerClass="example.com/other")
    ours = service("mine", loadBalancerClass="xk8s.local/externalip")
    for manifest in (theirs, service("cluster-ip", type="ClusterIP"), ours):
        server.kubectl("create", "-f", "-", stdin=manifest)
    assert wait_for(lambda: ips(server, "mine")) == ["10.0.0.1"]
    assert ips(server, "class") == []
    assert ips(server, "cluster-ip") == []
    # Another controller's status is not fought over.
    status = '{"status": {"loadBalancer": {"ingress": [{"ip": "172.16.0.1"}]}}}'
    server.kubectl("patch", "service", "mine", "--subresource=status", "-p", status)
    server.kubectl("create", "-f", "-", stdin=service("next"))
    assert wait_for(lambda: ips(server, "next")) == ["10.0.0.1"]
    assert ips(server, "mine") == ["172.16.0.1"]


def test_it_outlives_the_api_server_and_starts_before_it(server: Server) -> None:
    server.kill()
    one = Program(server, "--pool=10.0.0.0/29")
    try:
        wait_for(lambda: "will be tried again: listing Services" in one.said())
        server.start()
        one.ready()
        server.kubectl("create", "-f", "-", stdin=service("before"))
        assert wait_for(lambda: ips(server, "before")) == ["10.0.0.1"]
        server.kill()
        server.start()
        server.kubectl("create", "-f", "-", stdin=service("after"))
        assert wait_for(lambda: ips(server, "after")) == ["10.0.0.2"]
        assert ips(server, "before") == ["10.0.0.1"]
        # Its own log is for people: a line per thing that happens, not per try.
        assert len(one.said().splitlines()) < 12, one.said()
    finally:
        assert one.end() == 0
        server.kubectl("delete", "services", "--all", "--wait")


def test_new_keys_are_taken_up_with_the_next_connection(server: Server) -> None:
    one = Program(server, "--pool=10.0.0.0/29")
    pki = server.root / "pki"
    try:
        one.ready()
        for kind in ("crt", "key"):
            (pki / f"loadbalancer.{kind}").unlink()
        server.kill()
        wait_for(lambda: "will be tried again" in one.said())
        server.keys.cert(CA, "loadbalancer", common_name=USER)
        server.start()
        server.kubectl("create", "-f", "-", stdin=service("later"))
        assert wait_for(lambda: ips(server, "later")) == ["10.0.0.1"]
    finally:
        assert one.end() == 0
        server.kubectl("delete", "services", "--all", "--wait")


def test_what_happened_while_it_was_away_is_made_up_for(server: Server) -> None:
    one = Program(server, "--pool=10.0.0.0/29")
    one.ready()
    server.kubectl("create", "-f", "-", stdin=service("stays"))
    server.kubectl("create", "-f", "-", stdin=service("goes"))
    wait_for(lambda: ips(server, "goes"))
    one.process.kill()
    one.socket.close()
    one.process.wait()
    stays, gone = ips(server, "stays"), ips(server, "goes")
    server.kubectl("delete", "service", "goes")
    server.kubectl("create", "-f", "-", stdin=service("comes"))
    two = Program(server, "--pool=10.0.0.0/29")
    try:
        assert wait_for(lambda: ips(server, "comes")) == gone
        assert ips(server, "stays") == stays
    finally:
        assert two.end() == 0
        server.kubectl("delete", "services", "--all", "--wait")


def test_its_identity_may_do_this_and_nothing_else(server: Server) -> None:
    def may(verb: str, what: str) -> bool:
        resource, _, part = what.partition("/")
        words = ("auth", "can-i", verb, resource, f"--subresource={part}", f"--as={USER}", "-A")
        return server.kubectl_says(*words) == "yes"

    for verb, what in (
        ("list", "services"), ("watch", "services"), ("patch", "services/status"),
        ("create", "events"),
    ):  # fmt: skip
        assert may(verb, what), (verb, what)
    for verb, what in (("patch", "services"), ("get", "secrets"), ("create", "pods")):
        assert not may(verb, what), (verb, what)
