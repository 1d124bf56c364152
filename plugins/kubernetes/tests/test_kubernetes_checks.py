"""The checks against a small API server of our own: real TLS, real client certificate."""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs
import pytest
from xk8s.checks import CheckContext, NotYet
from xk8s.context import Context, ExecResult
from xk8s.errors import CheckFailed, MachineError
from xk8s.names.core_settings import ClusterSettings
from xk8s.pki import Keys
from xk8s.planning import topology
from xk8s_kubernetes import checks, pod_network
from xk8s_kubernetes.pod_network import PodNetwork
from xk8s_kubernetes.secrets import host_kubeconfig
from xk8s_kubernetes.settings import KubernetesSettings


class Cluster:
    """What the checks see of a cluster; ``answers`` maps "METHOD path" to (status, body)."""

    name = "t"

    def __init__(self, state_dir: Path) -> None:
        cluster = ClusterSettings(nodes=2)
        self.state_dir = state_dir
        self.ctx = Context(
            cluster="t",
            ip_family="ipv4",
            overlays=("kubernetes",),
            networks=topology.networks(cluster),
            nodes=topology.nodes(cluster),
            all_settings={KubernetesSettings: KubernetesSettings()},
        )
        self.answers: dict[str, tuple[int, Any]] = {}
        self.seen: list[str] = []
        self.port = 0
        self.agent = True
        self.modes = {"vm-001": "nftables", "vm-002": "nftables"}
        self.mtu = {"vm-001": 1450, "vm-002": 1450}
        self.path_mtu = 1500
        self.further: dict[str, list[dict[str, Any]]] = {}
        self.pinged: set[str] = set()
        self.lost = 0
        """Packets that are lost before one arrives."""

    def forward(self, name: str) -> tuple[str, int]:
        assert name == "api"
        return "127.0.0.1", self.port

    def run(
        self, node: str, argv: list[str], *, stdin: bytes = b"", timeout: float = 60
    ) -> ExecResult:
        if not self.agent:
            raise MachineError("no answer")
        if argv[0] == "curl":
            mode = self.modes.get(node)
            code, said, err = (0, mode or "", "") if mode else (7, "", "connection refused")
            return ExecResult(exit_code=code, stdout=said.encode(), stderr=err.encode())
        if argv[0] == "systemctl":  # the unit behind an alias
            assert argv[-1] == "cri.service"
            return ExecResult(exit_code=0, stdout=b"some-runtime.service\n", stderr=b"")
        if argv[0] == "pgrep":
            return ExecResult(exit_code=0, stdout=b"42\n", stderr=b"")
        if tuple(argv[:4]) == ("nsenter", "-t", "42", "-n"):
            return self.in_pod(node, list(argv[4:]))
        return ExecResult(exit_code=0, stdout=f"log of {argv[-1]}\n".encode(), stderr=b"")

    def in_pod(self, node: str, argv: list[str]) -> ExecResult:
        """As iproute2 and ping of Debian 13 answer in a pod's network namespace."""
        if argv[0] == "ip":
            eth0 = {"ifname": "eth0", "mtu": self.mtu[node], "addr_info": []}
            said = json.dumps([{"ifname": "lo", "mtu": 65536}, eth0, *self.further.get(node, [])])
            return ExecResult(exit_code=0, stdout=said.encode(), stderr=b"")
        size = int(argv[argv.index("-s") + 1]) + 28
        self.pinged.add(argv[-1])
        if self.lost:
            self.lost -= 1
            said = "1 packets transmitted, 0 received, 100% packet loss, time 0ms\n"
            return ExecResult(exit_code=1, stdout=said.encode(), stderr=b"")
        if size > self.mtu[node]:
            err = f"ping: local error: message too long, mtu={self.mtu[node]}\n"
            return ExecResult(exit_code=1, stdout=b"", stderr=err.encode())
        if size > self.path_mtu:
            said = f"From 11.0.1.1 icmp_seq=1 Frag needed and DF set (mtu = {self.path_mtu})\n"
            return ExecResult(exit_code=1, stdout=said.encode(), stderr=b"")
        return ExecResult(exit_code=0, stdout=b"1 received\n", stderr=b"")

    def dial(self, address: str, port: int, *, timeout: float = 5.0) -> Any:
        raise OSError


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster, keys = Cluster(tmp_path), Keys(tmp_path / "pki")
    pair = keys.cert("ca", "server", common_name="x", sans=["127.0.0.1"], server=True)
    (tmp_path / "crt").write_bytes(pair.cert)
    (tmp_path / "key").write_bytes(pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    context.load_verify_locations(cadata=keys.ca("ca").cert.decode())
    context.verify_mode = ssl.CERT_REQUIRED

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            key = f"{self.command} {self.path.split('?')[0]}"
            cluster.seen.append(key)
            status, body = cluster.answers.get(key, (404, {"message": "not found"}))
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    cluster.port = server.server_address[1]
    (tmp_path / "kubeconfig").write_bytes(host_kubeconfig(cluster, keys))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield cluster
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def check(cluster: Cluster) -> CheckContext:
    return CheckContext(access=cluster)


def node(name: str, status: str, message: str = "") -> dict[str, Any]:
    condition = {"type": "Ready", "status": status, "message": message}
    return {"metadata": {"name": name}, "status": {"conditions": [condition]}}


NODES = "GET /api/v1/nodes"
PODS = "/api/v1/namespaces/default/pods"
POD = f"{PODS}/xk8s-service-account"


def test_api(cluster, check):
    cluster.answers["GET /readyz"] = (500, "[+]ping ok\n[-]hook/rbac failed: withheld\n")
    with pytest.raises(NotYet, match=r"^waiting for hook/rbac$"):
        checks.api_ready(check)
    cluster.answers["GET /readyz"] = (200, "ok")
    cluster.answers["GET /version"] = (200, {"gitVersion": "v1.36.3"})
    assert checks.api_ready(check) == f"v1.36.3 ready on https://127.0.0.1:{cluster.port}"


def test_no_server_is_not_yet(cluster, check, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    text = (tmp_path / "kubeconfig").read_text().replace(f":{cluster.port}", ":1")
    (other / "kubeconfig").write_text(text)
    cluster.state_dir = other
    with pytest.raises(NotYet, match="no answer"):
        checks.api_ready(check)
    cluster.state_dir = tmp_path / "nowhere"
    with pytest.raises(NotYet, match="kubeconfig"):
        checks.api_ready(check)


def test_another_clusters_server_is_not_trusted(cluster, check, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "kubeconfig").write_bytes(host_kubeconfig(cluster, Keys(other / "pki")))
    cluster.state_dir = other
    with pytest.raises(NotYet, match="certificate"):
        checks.nodes_ready(check)


def test_nodes_says_what_each_lacks(cluster, check):
    cluster.answers[NODES] = (200, {"items": [node("vm-001", "False", "cni plugin not ready")]})
    with pytest.raises(NotYet) as seen:
        checks.nodes_ready(check)
    assert "vm-001 is not Ready: cni plugin not ready" in str(seen.value)
    assert "vm-002 is not registered" in str(seen.value)
    cluster.answers[NODES] = (200, {"items": [node("vm-001", "True"), node("vm-002", "True")]})
    assert checks.nodes_ready(check) == "vm-001, vm-002 Ready"


def review(user):
    """What the API server answers to a SelfSubjectReview."""
    return {"kind": "SelfSubjectReview", "status": {"userInfo": {"username": user}}}


def test_service_account(cluster, check):
    cluster.answers[f"POST {PODS}"] = (409, {"message": "already exists"})
    waiting = {"waiting": {"reason": "ErrImageNeverPull", "message": "no image"}}
    cluster.answers[f"GET {POD}"] = (
        200, {"status": {"phase": "Pending", "containerStatuses": [{"state": waiting}]}},
    )  # fmt: skip
    with pytest.raises(NotYet, match="ErrImageNeverPull no image"):
        checks.service_account(check)
    failed = {"terminated": {"exitCode": 1, "reason": "Error"}}
    cluster.answers[f"GET {POD}"] = (
        200, {"status": {"phase": "Running", "containerStatuses": [{"state": failed}]}},
    )  # fmt: skip
    with pytest.raises(NotYet, match="terminated Error"):
        checks.service_account(check)
    account = "system:serviceaccount:default:default"
    cluster.answers[f"GET {POD}/log"] = (200, json.dumps(review(account), indent=2))
    # The phase of the pod comes seconds behind the end of its program.
    ended = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    cluster.answers[f"GET {POD}"] = (
        200, {"status": {"phase": "Running", "containerStatuses": [{"state": ended}]}},
    )  # fmt: skip
    assert "default:default" in checks.service_account(check)
    cluster.answers[f"GET {POD}"] = (200, {"status": {"phase": "Succeeded"}})
    assert "default:default" in checks.service_account(check)
    assert cluster.seen[-1] == f"DELETE {POD}"
    # Somebody else, or an answer that names nobody: then all of it is shown.
    for said, shown in (
        (json.dumps(review("system:anonymous")), "for 'system:anonymous', not for"),
        ("system:anonymous", "for 'system:anonymous', not for"),
        ('{"status": 1}\n', """for '{"status": 1}', not for"""),
    ):
        cluster.answers[f"GET {POD}/log"] = (200, said)
        with pytest.raises(CheckFailed, match=re.escape(shown)):
            checks.service_account(check)


def test_a_namespace_without_its_account_yet_is_not_yet(cluster, check):
    cluster.answers[f"POST {PODS}"] = (403, {"message": "no service account default found"})
    with pytest.raises(NotYet, match="403 no service account"):
        checks.service_account(check)


def test_explain_has_the_logs_of_the_node_that_is_not_ready(cluster, check):
    cluster.answers[NODES] = (200, {"items": [node("vm-001", "True"), node("vm-002", "False")]})
    text = checks.explain_nodes(check)
    assert "vm-002: kubelet" in text
    # journalctl knows no alias, so the runtime's own unit is asked for.
    assert "vm-002: some-runtime.service" in text
    assert "vm-001" not in text
    cluster.answers[NODES] = (500, {"message": "etcd is gone"})
    assert "vm-001: etcd" in checks.explain_nodes(check)
    cluster.agent = False
    assert "does not answer" in checks.explain_nodes(check)


def test_kube_proxy_must_be_in_the_mode_of_the_settings_on_every_node(cluster):
    context = CheckContext(access=cluster)
    assert checks.proxy_mode(context) == "nftables on vm-001, vm-002"
    del cluster.modes["vm-002"]
    with pytest.raises(NotYet, match=r"vm-002: curl .* connection refused"):
        checks.proxy_mode(context)
    cluster.modes["vm-002"] = "iptables"  # as it falls back to when the kernel lacks something
    with pytest.raises(CheckFailed, match="vm-002 runs in mode 'iptables', not 'nftables'"):
        checks.proxy_mode(context)


def test_what_is_not_ready_is_named_however_long_the_list(cluster):
    ready = "".join(f"[+]poststarthook/part-{number} ok\n" for number in range(60))
    cluster.answers["GET /readyz"] = (500, "[-]poststarthook/rbac/bootstrap-roles failed\n" + ready)
    with pytest.raises(NotYet, match=r"^waiting for poststarthook/rbac/bootstrap-roles$"):
        checks.api_ready(CheckContext(access=cluster))


# --- the pods' network (answers of a guest's ip and ping are written down here) ---------


PODS = "/api/v1/namespaces/default/pods"


def running(node: str, mtu: int = 1450) -> dict[str, Any]:
    made = pod_network.probe_pod(node, PodNetwork(overlay="flannel", mtu=mtu))
    return {
        "metadata": made["metadata"],
        "spec": {"nodeName": node},
        "status": {"phase": "Running", "podIPs": [{"ip": f"11.0.{node[-1]}.2"}]},
    }


@pytest.fixture
def pods(cluster: Cluster) -> Cluster:
    """A pod of the check runs on each node."""
    cluster.answers[f"GET {PODS}"] = (200, {"items": [running("vm-001"), running("vm-002")]})
    return cluster


def reached(check: CheckContext, mtu: int = 1450) -> str:
    return pod_network.reached(check, PodNetwork(overlay="flannel", mtu=mtu))


def test_pods_of_all_nodes_are_made_at_once(cluster: Cluster, check: CheckContext) -> None:
    cluster.answers |= {f"GET {PODS}": (200, {"items": []}), f"POST {PODS}": (201, {})}
    with pytest.raises(NotYet, match="xk8s-pod-network-vm-001: not made yet"):
        reached(check)
    assert cluster.seen.count(f"POST {PODS}") == 2


def test_a_network_that_carries_the_largest_packet_passes_and_leaves_no_pods(
    pods: Cluster, check: CheckContext
) -> None:
    assert "reach each other with 1450 bytes, and no more" in reached(check)
    assert f"DELETE {PODS}/xk8s-pod-network-vm-002" in pods.seen


def test_who_does_not_say_what_the_mtu_is_is_not_held_to_one(
    cluster: Cluster, check: CheckContext
) -> None:
    made = [running("vm-001", mtu=0), running("vm-002", mtu=0)]
    cluster.answers[f"GET {PODS}"] = (200, {"items": made})
    assert "1450" in reached(check, mtu=0)


def test_pods_that_an_earlier_check_left_are_made_anew_when_the_mtu_has_changed(
    pods: Cluster, check: CheckContext
) -> None:
    pods.mtu = {"vm-001": 1400, "vm-002": 1400}
    with pytest.raises(NotYet, match="left on vm-001, vm-002"):
        reached(check, mtu=1400)
    assert f"DELETE {PODS}/xk8s-pod-network-vm-001" in pods.seen
    leaving = [running("vm-001"), running("vm-002", mtu=1400)]
    leaving[0]["metadata"]["deletionTimestamp"] = "2026-11-24T12:00:00Z"
    pods.answers[f"GET {PODS}"] = (200, {"items": leaving})
    with pytest.raises(NotYet, match="left on vm-001 are not gone"):
        reached(check, mtu=1400)


def test_another_mtu_than_the_cni_said_fails(pods: Cluster, check: CheckContext) -> None:
    pods.mtu["vm-002"] = 1500
    with pytest.raises(
        CheckFailed, match="pods of vm-002 have an MTU of 1500, and overlay flannel"
    ):
        reached(check)


def test_an_mtu_that_the_way_does_not_carry_fails_and_tells_the_setting(
    pods: Cluster, check: CheckContext
) -> None:
    pods.path_mtu = 1400
    with pytest.raises(CheckFailed, match=r"mtu = 1400.*kubernetes\.pod_mtu"):
        reached(check)


def test_pods_that_cannot_reach_each_other_at_all_may_do_so_later(
    pods: Cluster, check: CheckContext
) -> None:
    pods.lost = 1000
    with pytest.raises(NotYet, match=r"pod of vm-001 to 11\.0\.2\.2 on vm-002: 1 packets"):
        reached(check)


def test_a_route_that_comes_between_two_packets_is_no_matter_of_their_size(
    pods: Cluster, check: CheckContext
) -> None:
    pods.lost = 3  # as many as are sent of the largest
    assert "reach each other with 1450 bytes, and no more" in reached(check)


def test_the_pod_of_a_single_node_has_its_mtu(cluster: Cluster, check: CheckContext) -> None:
    cluster.ctx = attrs.evolve(cluster.ctx, nodes=cluster.ctx.nodes[:1])
    cluster.answers[f"GET {PODS}"] = (200, {"items": [running("vm-001")]})
    assert reached(check) == "a pod of vm-001 has an MTU of 1450"
    cluster.answers[f"GET {PODS}"] = (200, {"items": [running("vm-001", mtu=1400)]})
    with pytest.raises(CheckFailed, match="should give them 1400"):
        reached(check, mtu=1400)


# --- further interfaces of pods ---------------------------------------------------------


FURTHER = PodNetwork(
    overlay="multi",
    mtu=1450,
    name="pod network far",
    interface="net1",
    annotations={"example.com/networks": "far"},
    ranges={"vm-001": ("172.18.1.0/24",), "vm-002": ("172.18.2.0/24",)},
)


def net1(address: str) -> dict[str, Any]:
    near = {"local": "fe80::1", "scope": "link"}
    return {
        "ifname": "net1",
        "mtu": 1450,
        "addr_info": [{"local": address, "scope": "global"}, near],
    }


@pytest.fixture
def further(cluster: Cluster) -> Cluster:
    """A pod with an interface net1 runs on each node."""
    items = []
    for node in ("vm-001", "vm-002"):
        made = pod_network.probe_pod(node, FURTHER)
        status = {"phase": "Running", "podIPs": [{"ip": f"11.0.{node[-1]}.2"}]}
        items.append({**made, "status": status})
        cluster.further[node] = [net1(f"172.18.{node[-1]}.1")]
    cluster.answers[f"GET {PODS}"] = (200, {"items": items})
    return cluster


def test_a_further_interface_is_reached_by_its_own_addresses(
    further: Cluster, check: CheckContext
) -> None:
    said = pod_network.reached(check, FURTHER)
    assert said == "pods of vm-001, vm-002 reach each other by net1 with 1450 bytes, and no more"
    assert further.pinged == {"172.18.1.1", "172.18.2.1"}
    assert f"DELETE {PODS}/xk8s-pod-network-far-vm-001" in further.seen


def test_pods_of_that_check_ask_for_it() -> None:
    metadata = pod_network.probe_pod("vm-001", FURTHER)["metadata"]
    assert metadata["annotations"] == {"example.com/networks": "far"}
    assert metadata["labels"]["app"] == "xk8s-pod-network-far"


def test_a_pod_without_the_interface_fails_the_check(further: Cluster, check: CheckContext) -> None:
    del further.further["vm-002"]
    with pytest.raises(CheckFailed, match=r"pod of vm-002 has no net1, which overlay multi.*eth0"):
        pod_network.reached(check, FURTHER)


def test_an_address_of_another_range_fails_the_check(further: Cluster, check: CheckContext) -> None:
    further.further["vm-002"] = [net1("172.18.1.7")]
    with pytest.raises(CheckFailed, match=r"no address of 172\.18\.2\.0/24: it has 172\.18\.1\.7"):
        pod_network.reached(check, FURTHER)
