"""All keys of a running cluster are made anew: the old ones are worth nothing, all works. The
cluster has a kubelet of our own, with options and gates of its own, and its pods run from images of
an archive and of a directory.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import signal
import ssl
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import yaml
from cryptography import x509
from xk8s.util.paths import cache_dir

from tests.cluster.kubectl import kubectl_of
from tests.cluster.one_node import ONE_NODE, one_node, own_files
from tests.conftest import Xk8s

pytestmark = pytest.mark.cluster

NODE = "vm-001"

PODS = """
apiVersion: v1
kind: Secret
metadata: {name: old-style, annotations: {kubernetes.io/service-account.name: default}}
type: kubernetes.io/service-account-token
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: asks}
spec:
  selector: {matchLabels: {app: asks}}
  template:
    metadata: {labels: {app: asks}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: asks
        image: t.local/archive:1
        imagePullPolicy: Never
        command: [/kubectl, proxy]
        volumeMounts: [{name: kubectl, mountPath: /kubectl, readOnly: true}]
      volumes: [{name: kubectl, hostPath: {path: /usr/bin/kubectl, type: File}}]
---
apiVersion: v1
kind: Pod
metadata: {name: alone}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: asks
    image: t.local/files:1
    imagePullPolicy: Never
    command: [/kubectl, proxy]
    volumeMounts: [{name: kubectl, mountPath: /kubectl, readOnly: true}]
  volumes: [{name: kubectl, hostPath: {path: /usr/bin/kubectl, type: File}}]
"""


@pytest.fixture(scope="module")
def cluster(xk8s: Xk8s) -> Iterator[Xk8s]:
    """One node with a Deployment, a pod that nobody recreates, and a token in a Secret."""
    try:
        with one_node(xk8s) as command:
            kubectl(command, "apply", "-f", "-", stdin=PODS)
            kubectl(
                command, "wait", "--for=condition=Available", "--timeout=600s", "deployment/asks"
            )
            kubectl(command, "wait", "--for=condition=Ready", "--timeout=600s", "pod/alone")
            yield command
    finally:
        for label in labels(xk8s):
            xk8s("--name", ONE_NODE.name, "snapshot", "remove", label)


def kubectl(cluster: Xk8s, *words: str, stdin: str | None = None) -> str:
    return kubectl_of(cluster, ONE_NODE.name)(*words, stdin=stdin)


def labels(cluster: Xk8s) -> list[str]:
    found = cluster.json("snapshot", "list", "--json")
    return [snapshot["label"] for snapshot in found if snapshot["cluster"] == ONE_NODE.name]


def state(cluster: Xk8s) -> Path:
    return cluster.root / "s" / "clusters" / ONE_NODE.name


def ask(kubeconfig: str, authority: str, path: str = "/api/v1/nodes") -> int:
    """The status of a request with the client's key of one kubeconfig, to a server whose
    certificate the authority of another one has signed.
    """
    config = yaml.safe_load(kubeconfig)
    user = config["users"][0]["user"]
    ca = base64.b64decode(authority_of(authority)).decode()
    context = ssl.create_default_context(cadata=ca)
    with tempfile.NamedTemporaryFile() as pair:
        for name in ("client-certificate-data", "client-key-data"):
            pair.write(base64.b64decode(user[name]))
        pair.flush()
        context.load_cert_chain(pair.name)
    server = config["clusters"][0]["cluster"]["server"]
    with httpx2.Client(base_url=server, verify=context, trust_env=False, timeout=60) as http:
        return http.get(path).status_code


def authority_of(kubeconfig: str) -> str:
    found: str = yaml.safe_load(kubeconfig)["clusters"][0]["cluster"]["certificate-authority-data"]
    return found


def bodies(directory: Path) -> list[bytes]:
    """The second line of every private key: part of the key itself."""
    return [path.read_bytes().splitlines()[2] for path in directory.glob("*.key")]


def test_arguments_and_gates_of_a_component_arrive_at_it_alone(cluster: Xk8s) -> None:
    lines = cluster("exec", NODE, "--", "ps", "-eo", "args").splitlines()
    running = {
        line.split()[0].rpartition("/")[2]: line for line in lines if "/usr/bin/kube" in line
    }
    assert "--max-requests-inflight=401" in running["kube-apiserver"]
    gate = "CrossNamespaceVolumeDataSource"
    assert f"--feature-gates={gate}=true" in running["kube-apiserver"]
    metrics = kubectl(cluster, "get", "--raw", "/metrics")
    assert re.search(rf'^kubernetes_feature_enabled{{.*"{gate}".*}} 1$', metrics, re.MULTILINE)
    assert "--max-pods=42" in running["kubelet"]
    for name in ("kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet"):
        assert "--feature-gates" not in running[name]
    config = json.loads(kubectl(cluster, "get", "--raw", f"/api/v1/nodes/{NODE}/proxy/configz"))
    assert config["kubeletconfig"]["featureGates"] == {"ContainerCheckpoint": False}
    assert config["kubeletconfig"]["maxPods"] == 42


def test_the_own_kubelet_runs_and_the_rest_is_the_others(cluster: Xk8s) -> None:
    def digest(path: str) -> str:
        return cluster("exec", NODE, "--", "sha256sum", path).split()[0]

    kubelet = (own_files() / "own" / "kubelet").read_bytes()
    pid = cluster("exec", NODE, "--", "pidof", "kubelet").strip()
    assert digest(f"/proc/{pid}/exe") == hashlib.sha256(kubelet).hexdigest()
    found = cluster.json("artifacts", "--json")["artifacts"]
    digests = {
        hashlib.sha256((Path(artifact["path"]) / "kube-proxy").read_bytes()).hexdigest()
        for artifact in found
        if artifact["name"] == "kubernetes" and (Path(artifact["path"]) / "kube-proxy").exists()
    }
    assert digest("/usr/bin/kube-proxy") in digests


def test_keys_are_in_no_shared_layer(cluster: Xk8s) -> None:
    keys = bodies(state(cluster) / "pki")
    assert len(keys) > 10
    layers = list((cache_dir() / "layers").glob("*.erofs"))
    assert layers
    for image in layers:
        data = image.read_bytes()
        assert not [key for key in keys if key in data], image
    # The node's own image has them, so looking for them so does find them.
    own = state(cluster) / "nodes" / f"{NODE}.erofs"
    assert sum(key in own.read_bytes() for key in keys) > 5
    assert own.stat().st_mode & 0o777 == 0o600


def test_show_tells_what_there_is_and_no_private_key(cluster: Xk8s) -> None:
    text = cluster("ca", "show", "--json")
    assert "PRIVATE" not in text
    found = {key["name"]: key for key in json.loads(text)}
    kinds = {name: key["kind"] for name, key in found.items()}
    assert {name for name, kind in kinds.items() if kind == "authority"} == {
        "ca", "etcd-ca", "front-proxy-ca",
    }  # fmt: skip
    assert kinds["sa"] == "signing key"
    assert "kubernetes.default.svc" in found["apiserver"]["sans"]
    # What the guest's OpenSSL says of the same.
    said = cluster("exec", NODE, "--", "openssl", "x509", "-noout",
                   "-fingerprint", "-sha256", "-in", "/etc/kubernetes/pki/ca.crt")  # fmt: skip
    assert said.strip().rpartition("=")[2].replace(":", "").lower() == found["ca"]["sha256"]


@pytest.fixture(scope="module")
def rotated(cluster: Xk8s) -> dict[str, object]:
    """What there was before, and what `ca rotate` said. Its first run is killed in the middle."""
    own = state(cluster) / "nodes" / f"{NODE}.erofs"
    before: dict[str, object] = {
        "kubeconfig": cluster("kubeconfig"),
        "token": kubectl(cluster, "create", "token", "default", "--duration=2h").strip(),
        "secret": kubectl(cluster, "get", "secret", "old-style", "-o", "jsonpath={.data.token}"),
        "pods": pods(cluster),
        "keys": bodies(state(cluster) / "pki"),
        "image": (own.stat().st_ino, own.stat().st_mtime_ns),
        "labels": labels(cluster),
    }
    assert any(label.startswith("auto-") for label in labels(cluster))
    run = cluster.start("ca", "rotate")
    try:
        deadline = time.monotonic() + 300
        while "Deactivating" not in restarting(cluster) and run.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert run.poll() is None, run.communicate()
        os.kill(run.pid, signal.SIGKILL)
    finally:
        run.kill()
        run.wait()
    assert (state(cluster) / "pki").is_dir()
    assert (state(cluster) / "pki.new").is_dir()
    assert sorted(bodies(state(cluster) / "pki")) == sorted(before["keys"])  # type: ignore[call-overload]
    before["report"] = cluster.json("ca", "rotate", "--json", timeout=1500)
    return before


def restarting(cluster: Xk8s) -> str:
    """ "Deactivating" or "Activating" while a unit of the control plane is restarted."""
    done = cluster("exec", NODE, "--", "systemctl", "show", "-p", "ActiveState",
                   "--value", "etcd", "kube-apiserver")  # fmt: skip
    return "Deactivating" if {"deactivating", "activating"} & set(done.split()) else ""


def pods(cluster: Xk8s) -> dict[str, str]:
    """UIDs of the pods of the namespace default, by name."""
    found = json.loads(kubectl(cluster, "get", "pods", "-o", "json"))["items"]
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in found}


def test_the_cluster_is_ready_and_the_report_says_what_was_done(
    cluster: Xk8s, rotated: dict[str, object]
) -> None:
    report = rotated["report"]
    assert isinstance(report, dict)
    assert cluster.json("status", "--json")["phase"] == "running"
    recreated = [name.rpartition("-")[0].rpartition("-")[0] for name in report["pods_recreated"]]
    assert sorted(recreated) == ["default/asks", "kube-system/coredns"]
    assert report["pods_left"] == ["default/alone"]
    assert report["snapshots_removed"] == rotated["labels"]
    assert not list(state(cluster).glob("pki.*"))
    assert not set(bodies(state(cluster) / "pki")) & set(rotated["keys"])  # type: ignore[call-overload]
    results = cluster.json("check", "--json", timeout=600)
    assert all(result["ok"] for result in results), results


def test_the_old_kubeconfig_is_refused(cluster: Xk8s, rotated: dict[str, object]) -> None:
    old, new = str(rotated["kubeconfig"]), cluster("kubeconfig")
    assert authority_of(old) != authority_of(new)
    assert ask(new, new) == 200
    assert ask(old, new) == 401
    # It does not take the server for the one that it knew, either.
    with pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        ask(old, old)


def test_old_tokens_are_refused(cluster: Xk8s, rotated: dict[str, object]) -> None:
    def status(token: str) -> str:
        return cluster(
            "exec", NODE, "--", "curl", "-s", "-o", "/dev/null", "-w",
            "%{http_code}", "--cacert", "/etc/kubernetes/pki/ca.crt",
            "-H", f"Authorization: Bearer {token}", "https://127.0.0.1:6443/api",
        )  # fmt: skip

    assert status(str(rotated["token"])) == "401"
    old = base64.b64decode(str(rotated["secret"])).decode()
    assert status(old) == "401"
    secret = kubectl(cluster, "get", "secret", "old-style", "-o", "jsonpath={.data.token}")
    assert status(base64.b64decode(secret).decode()) == "200"


def test_nobody_in_the_cluster_is_told_to_trust_the_old_authority(
    cluster: Xk8s, rotated: dict[str, object]
) -> None:
    old = base64.b64decode(authority_of(str(rotated["kubeconfig"])))
    serial = x509.load_pem_x509_certificate(old).serial_number
    found = json.loads(kubectl(cluster, "get", "configmaps", "-A", "-o", "json"))["items"]
    certificates = {
        (item["metadata"]["name"], x509.load_pem_x509_certificate(block.encode()).serial_number)
        for item in found
        for text in (item.get("data") or {}).values()
        for block in blocks(text)
    }
    assert {"kube-root-ca.crt", "extension-apiserver-authentication"} <= {
        name for name, _ in certificates
    }
    assert serial not in {number for _, number in certificates}


def blocks(text: str) -> list[str]:
    end = "-----END CERTIFICATE-----"
    return [f"{part}{end}\n" for part in text.split(end) if "BEGIN CERTIFICATE" in part]


def test_pods_work_with_the_new_keys(cluster: Xk8s, rotated: dict[str, object]) -> None:
    before, now = rotated["pods"], pods(cluster)
    assert isinstance(before, dict)
    assert now["alone"] == before["alone"]
    assert not {name for name in now if name.startswith("asks")} & set(before)
    kubectl(cluster, "wait", "--for=condition=Available", "--timeout=600s", "deployment/asks")
    whoami = ("--", "/kubectl", "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
    wanted = "system:serviceaccount:default:default"
    assert kubectl(cluster, "exec", "deployment/asks", *whoami) == wanted
    # Nobody makes the other one anew; its files are new all the same, some time later.
    deadline = time.monotonic() + 180
    while True:
        done = kubectl_of(cluster, ONE_NODE.name).run("exec", "alone", *whoami)
        if done.returncode == 0:
            assert done.stdout == wanted
            return
        assert time.monotonic() < deadline, done.stderr
        time.sleep(5)


def test_the_nodes_image_is_as_it_was_and_a_saved_cluster_comes_back(
    cluster: Xk8s, rotated: dict[str, object]
) -> None:
    own = state(cluster) / "nodes" / f"{NODE}.erofs"
    assert (own.stat().st_ino, own.stat().st_mtime_ns) == rotated["image"]
    fingerprint = cluster("ca", "show", "--json")
    cluster("snapshot", "save", "rotated", timeout=900)
    cluster("snapshot", "restore", "rotated", timeout=900)
    assert cluster("ca", "show", "--json") == fingerprint
    kubeconfig = cluster("kubeconfig")
    assert ask(kubeconfig, kubeconfig) == 200
    assert ask(str(rotated["kubeconfig"]), kubeconfig) == 401
    results = cluster.json("check", "--json", timeout=600)
    assert all(result["ok"] for result in results), results
