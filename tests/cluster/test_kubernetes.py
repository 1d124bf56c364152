"""The cluster of the README: two nodes, a router, Kubernetes, CoreDNS and a virtual address."""

from __future__ import annotations

import base64
import json
import re
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from xk8s.util.processes import leftovers

from tests.cluster.hello_image import load_and_run
from tests.cluster.helm_tool import CHART, Helm
from tests.cluster.kubectl import Kubectl, kubectl_of
from tests.cluster.shared import README
from tests.conftest import Xk8s

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def cluster(xk8s: Xk8s) -> Iterator[Xk8s]:
    """The running cluster; it was booted (and is tested for that) by test_smoke.py."""
    with README.running(xk8s) as command:
        yield command


def guest(cluster: Xk8s, node: str, *words: str) -> str:
    return cluster("exec", node, "--", *words)


def wait_for_pods(cluster: Xk8s, address: str, pods: int) -> None:
    """Until every connection is answered and that many pods did; every node's kube-proxy has to
    hear of a Service first.
    """
    deadline = time.monotonic() + 420
    while True:
        words = ("mconnect", "--address", f"{address}:5001", "--nconn", str(10 * pods))
        try:
            tally = cluster.json(*words, "--timeout", "5", "--json", timeout=900)
        except AssertionError:
            assert time.monotonic() < deadline
        else:
            if len(tally["answers"]) == pods:
                return
            assert time.monotonic() < deadline, tally
        time.sleep(1)


def test_status_says_running(cluster: Xk8s) -> None:
    status = cluster.json("status", "--json")
    assert status["phase"] == "running"
    roles = {node["name"]: node["role"] for node in status["nodes"]}
    assert roles == {"vm-001": "control-plane", "vm-002": "worker", "vm-201": "router"}
    assert all(node["running"] for node in status["nodes"])


def test_kubectl_from_the_host(cluster: Xk8s, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(cluster("kubeconfig"))
    config.chmod(0o600)
    assert "127.0.0.1" in config.read_text()
    ready = {
        node["metadata"]["name"]: condition["status"]
        for node in json.loads(Kubectl(config)("get", "nodes", "-o", "json"))["items"]
        for condition in node["status"]["conditions"]
        if condition["type"] == "Ready"
    }
    assert ready == {"vm-001": "True", "vm-002": "True"}


def test_kubectl_in_the_guest(cluster: Xk8s) -> None:
    out = guest(cluster, "vm-001", "kubectl", "get", "pods", "-A", "-o", "wide")
    assert len(re.findall(r"mconnect-\S+ .* Running", out)) == 4
    assert re.search(r"kube-system\s+coredns-\S+ .* Running", out)
    # Both nodes carry some.
    assert {"vm-001", "vm-002"} <= set(re.findall(r"vm-\d\d\d", out))


def test_mconnect_from_outside(cluster: Xk8s) -> None:
    tally = cluster.json(
        "mconnect", "--address", "10.0.0.2:5001", "--nconn", "400", "--json", timeout=900
    )
    assert tally["connects"] == 400
    assert tally["failed"] == 0
    assert len(tally["answers"]) == 4
    assert all(50 <= count <= 150 for count in tally["answers"].values())


def test_mconnect_to_nobody_fails(cluster: Xk8s) -> None:
    error = cluster(
        "mconnect", "--address", "10.0.0.77:5001", "--nconn", "2", "--timeout", "1", code=9
    )
    assert error == "" or "Traceback" not in error


def test_router_spreads_over_both_nodes(cluster: Xk8s) -> None:
    routes = guest(cluster, "vm-201", "ip", "route", "show", "10.0.0.0/24")
    assert "nexthop via 192.168.1.1 " in routes
    assert "nexthop via 192.168.1.2 " in routes


def test_nothing_listens_beyond_loopback(cluster: Xk8s) -> None:
    assert cluster.root is not None
    inodes = set()
    # The ports belong to the holder of the networks, and any process could have more.
    own = leftovers(cluster.root / "r" / README.name)
    assert len(own) > len(cluster.json("status", "--json")["nodes"])
    for process in own:
        for fd in Path(f"/proc/{process.pid}/fd").iterdir():
            if match := re.match(r"socket:\[(\d+)\]", str(fd.readlink())):
                inodes.add(match[1])
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in inodes:
                listening.append(words[1])
    assert listening, "the API's forward must be among them"
    # 0100007F is 127.0.0.1 in the kernel's byte order.
    assert all(address.startswith("0100007F:") for address in listening)


def test_keys_are_private(cluster: Xk8s) -> None:
    keys = list(cluster.root.rglob("*.key"))
    assert keys
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}
    shared = guest(cluster, "vm-002", "find", "/etc", "/var/lib", "-name", "*ca*.key").split()
    assert shared == [], "a worker has no key of an authority"


def test_logs_where_the_field_looks(cluster: Xk8s) -> None:
    out = guest(cluster, "vm-001", "ls", "/var/log")
    for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet",
                 "kube-proxy"):  # fmt: skip
        assert f"{name}.log" in out
    assert cluster("logs", "vm-002", "kubelet")


def test_units_where_the_field_looks(cluster: Xk8s) -> None:
    found = guest(cluster, "vm-001", "find", "/etc/systemd", "-name", "kube*.service")
    for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy",
                 "kubelet"):  # fmt: skip
        assert f"/etc/systemd/system/{name}.service" in found
    assert "--secure-port=6443" in guest(cluster, "vm-001", "systemctl", "cat", "kube-apiserver")


def test_the_manifest_is_there_to_be_applied_by_hand(cluster: Xk8s) -> None:
    said = guest(cluster, "vm-001", "kubectl", "apply", "-f", "/etc/kubernetes/mconnect.yaml")
    assert "deployment.apps/mconnect" in said
    assert "service/mconnect" in said
    tally = cluster.json("mconnect", "--address", "10.0.0.2:5001", "--nconn", "50", "--json")
    assert tally["failed"] == 0


def test_checks_pass_again(cluster: Xk8s) -> None:
    results = cluster.json("check", "--json", timeout=600)
    assert results
    assert all(result["ok"] for result in results)


def test_a_broken_link_is_seen_and_mended(cluster: Xk8s) -> None:
    cluster("net", "link", "vm-002", "eth1", "down")
    assert "NO-CARRIER" in guest(cluster, "vm-002", "ip", "link", "show", "eth1")
    cluster("net", "link", "vm-002", "eth1", "up")
    out = guest(cluster, "vm-201", "ping", "-c", "10", "-i", "0.3", "-W", "2", "192.168.1.2")
    assert " 0 received" not in out


def test_faults_are_recognised_and_a_report_has_no_keys(cluster: Xk8s, tmp_path: Path) -> None:
    def faults() -> set[str]:
        found = cluster.json("check", "--faults", "--json", timeout=900)
        return {fault["fault"] for fault in found["faults"] if not fault["transient"]}

    kubectl = kubectl_of(cluster, README.name)

    def run(name: str, image: str, event: str) -> None:
        """A pod on vm-001 that cannot run, until an event says so."""
        kubectl("run", name, f"--image={image}", "--image-pull-policy=Never",
                '--overrides={"spec": {"nodeName": "vm-001"}}')  # fmt: skip
        where = f"involvedObject.name={name}"
        deadline = time.monotonic() + 300
        while event not in (seen := kubectl("get", "events", "--field-selector", where)):
            assert time.monotonic() < deadline, seen
            time.sleep(2)

    assert faults() == set(), "a cluster that passed its checks shows none"
    try:
        run("no-image", "docker.io/library/none:1", "ErrImageNeverPull")
        guest(cluster, "vm-001", "mv", "/opt/cni/bin/bridge", "/root/")
        run("no-plugin", "xk8s.local/mconnect:0.2", "failed to find plugin")
    finally:
        guest(cluster, "vm-001", "sh", "-c", "mv /root/bridge /opt/cni/bin/ || true")
    assert {"image-never-pull", "cni-plugin-missing"} <= faults()
    path = tmp_path / "report.tar.gz"
    told = cluster.json("report", "-o", str(path), "--json", timeout=600)
    assert {"image-never-pull", "cni-plugin-missing"} <= {
        fault["fault"] for fault in told["faults"]
    }
    assert told["missing"] == []
    assert told["checks"][0]["ok"], "the first needs no pod that a busy host is slow to start"
    texts = {}
    with tarfile.open(path) as archive:
        for member in archive.getmembers():
            file = archive.extractfile(member)
            assert file is not None
            texts[member.name.partition("/")[2]] = file.read().decode()
    assert "docker.io/library/none:1" in texts["REPORT.md"]
    assert "no-image" in texts["nodes/vm-001/kubectl/pods.txt"]
    assert "mconnect" in texts["nodes/vm-001/kubectl/objects.txt"]
    for name in ("log/kube-apiserver.log", "log/etcd.log", "etcd/health", "cri/images",
                 "containers", "network/nftables"):  # fmt: skip
        assert texts[f"nodes/vm-001/{name}" + ("" if "." in name else ".txt")], name
    keys = [path for path in cluster.root.rglob("*.key") if "snapshots" not in path.parts]
    assert len(keys) > 10
    for key in keys:
        body = "".join(key.read_text().splitlines()[1:-1])
        pieces = [body[at : at + 32] for at in range(0, len(body) - 32, 32)]
        wrapped = base64.b64encode(key.read_bytes()).decode()
        pieces += [wrapped[at : at + 32] for at in range(40, len(wrapped) - 72, 32)]
        for name, text in texts.items():
            assert not any(piece in text for piece in pieces), f"{name} has a piece of {key.name}"
    assert "PRIVATE KEY" not in "".join(texts.values())
    assert "client-key-data: L" not in "".join(texts.values())
    log = cluster("logs", "pod/coredns").splitlines()
    assert any("CoreDNS-" in line for line in log)
    # Its health plugin times itself each second: that says how busy this machine is.
    warnings = [line for line in log if "[WARNING]" in line and "took more than 1s" not in line]
    assert warnings == []
    kubectl("delete", "pod", "--now", "no-image", "no-plugin")


def test_an_idle_node_is_not_kept_busy(cluster: Xk8s) -> None:
    def slack(process: str) -> int:
        pid = guest(cluster, "vm-001", "pgrep", "--oldest", process).strip()
        return int(guest(cluster, "vm-001", "cat", f"/proc/{pid}/timerslack_ns"))

    ours = ("etcd", "kube-apiserver", "kube-controller", "kube-scheduler", "kubelet",
            "kube-proxy", "kube-loadbalanc")  # fmt: skip
    assert {name: slack(name) for name in ours} == dict.fromkeys(ours, 10_000_000)
    # What runs in pods is the user's, and has the kernel's own.
    assert slack("containerd-shim") == slack("pause") == 50_000
    config = guest(cluster, "vm-001", "containerd", "config", "dump")
    assert "stats_collect_period = '30s'" in config
    log = guest(cluster, "vm-001", "journalctl", "--no-pager", "-u", "containerd")
    assert "nknown key" not in log


def test_a_load_balancer_gets_an_address_that_is_reached_from_outside(cluster: Xk8s) -> None:
    kubectl = kubectl_of(cluster, README.name)

    def create(what: dict[str, object]) -> None:
        kubectl("create", "-f", "-", stdin=json.dumps(what))

    def address(name: str) -> str:
        """What the column EXTERNAL-IP shows, once that is an address."""
        deadline = time.monotonic() + 300
        path = "jsonpath={.status.loadBalancer.ingress[*].ip}"
        while not (found := kubectl("get", "service", name, "-o", path)):
            assert time.monotonic() < deadline, kubectl("describe", "service", name)
            time.sleep(1)
        return found

    ports, selector = [{"port": 5001}], {"app": "mconnect"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "outside"},
        "spec": {"type": "LoadBalancer", "selector": selector, "ports": ports},
    }
    create(service)
    # The lowest one; 10.0.0.2 is mconnect's, by externalIPs.
    assert address("outside") == "10.0.0.1"
    wait_for_pods(cluster, "10.0.0.1", 4)
    found = cluster.json("mconnect", "--address", "10.0.0.1:5001", "--nconn", "100", "--json",
                         timeout=900)  # fmt: skip
    assert found["failed"] == 0
    assert len(found["answers"]) == 4
    kubectl("delete", "service", "outside")
    service["metadata"] = {"name": "next"}
    create(service)
    assert address("next") == "10.0.0.1", "the address is free again"
    kubectl("delete", "service", "next")
    log = cluster("logs", "vm-001", "kube-loadbalancer")
    assert "default/outside: addresses: 10.0.0.1" in log


def test_kubectl_and_helm_with_the_users_own_file(cluster: Xk8s, tmp_path: Path) -> None:
    users = tmp_path / "config"
    users.write_text("# mine\ncontexts:\n- name: work\n  context: {}\ncurrent-context: work\n")
    before = users.read_text()
    cluster("kubeconfig", "--merge", "--no-use", str(users))
    assert "xk8s-xk8s" in Kubectl(users)("config", "get-contexts")
    assert " Ready " in Kubectl(users)("--context", "xk8s-xk8s", "get", "nodes")
    helm = Helm(home=tmp_path / "helm", kubeconfig=users, context="xk8s-xk8s")
    # --wait is over when the pods are ready and the Service has its address.
    wait = ("--wait", "--timeout", "5m")
    helm("install", "answers", str(CHART), *wait)
    (release,) = helm.json("list")
    assert (release["name"], release["status"]) == ("answers", "deployed")
    kubectl = kubectl_of(cluster, README.name)
    services = json.loads(kubectl("get", "service", "answers", "-ojson"))
    (ingress,) = services["status"]["loadBalancer"]["ingress"]
    helm("test", "answers", "--timeout", "5m")
    assert "it is answers-" in kubectl("logs", "answers-test")
    helm("upgrade", "answers", str(CHART), "--set", "replicas=3", *wait)
    wait_for_pods(cluster, ingress["ip"], 3)
    helm("uninstall", "answers", "--wait", "--timeout", "5m")
    assert helm.json("list") == []
    kubectl("delete", "pod", "answers-test", "--ignore-not-found")
    cluster("kubeconfig", "--remove", str(users))
    assert users.read_text() == before


def test_an_image_gets_into_the_running_nodes(cluster: Xk8s, tmp_path: Path) -> None:
    load_and_run(cluster, kubectl_of(cluster, README.name), tmp_path)


def test_named_snapshot_of_a_restored_cluster(cluster: Xk8s) -> None:
    guest(cluster, "vm-002", "touch", "/root/marked")
    cluster("snapshot", "save", "marked", timeout=900)
    # Its memory was shared while it ran: it was not written while all stood still.
    where = cluster.root / "s" / "snapshots" / "xk8s" / "marked"
    assert (where / "vm-001.ram").exists()
    assert (where / "vm-001.state").stat().st_size < 64 << 20
    guest(cluster, "vm-002", "rm", "/root/marked")
    cluster("reset", timeout=900)
    guest(cluster, "vm-002", "test", "-e", "/root/marked")
    assert kubectl_of(cluster, README.name)("get", "--raw", "/readyz") == "ok"
    labels = [snapshot["label"] for snapshot in cluster.json("snapshot", "list", "--json")
              if snapshot["cluster"] == "xk8s"]  # fmt: skip
    assert "marked" in labels
    assert any(label.startswith("auto-") for label in labels)
    cluster("snapshot", "remove", "marked")


def test_a_changed_snapshot_is_refused_and_what_runs_goes_on(cluster: Xk8s) -> None:
    cluster("snapshot", "save", "damaged", timeout=900)
    state = cluster.root / "s" / "snapshots" / "xk8s" / "damaged" / "vm-001.state"
    with state.open("r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    error = cluster("snapshot", "restore", "damaged", code=10)
    assert "vm-001.state was changed" in error
    assert guest(cluster, "vm-001", "hostname") == "vm-001\n"
    cluster("snapshot", "remove", "damaged")
