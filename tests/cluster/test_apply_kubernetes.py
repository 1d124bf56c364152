"""Changes put into a Kubernetes cluster that runs: CNI, kube-proxy, the container runtime, CoreDNS,
a new overlay with its image; pods that need not go stay.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.kubectl import kubectl_of
from tests.cluster.one_node import ONE_NODE, one_node
from tests.conftest import Xk8s

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def cluster(xk8s: Xk8s) -> Iterator[Xk8s]:
    with one_node(xk8s) as command:
        yield command


def run(xk8s: Xk8s, *argv: str) -> str:
    return xk8s("exec", "vm-001", "--", *argv)


def kubectl(xk8s: Xk8s, *words: str) -> str:
    return kubectl_of(xk8s, ONE_NODE.name)(*words)


def apply(xk8s: Xk8s, *words: str) -> dict[str, Any]:
    """What was done to the one node."""
    (node,) = xk8s.json("apply", *words, "--json", timeout=1800)["nodes"]
    return dict(node)


def pods(xk8s: Xk8s, name: str) -> dict[str, dict[str, Any]]:
    found = {
        pod["metadata"]["name"]: pod
        for pod in json.loads(kubectl(xk8s, "get", "pods", "-A", "-ojson"))["items"]
    }
    return {key: pod for key, pod in found.items() if key.startswith(name)}


def test_a_line_of_cni_configuration_restarts_nothing(cluster: Xk8s) -> None:
    before = pods(cluster, "coredns")
    done = apply(cluster, "-s", "kubernetes.pod_mtu=1400")
    assert done["files"] == ["/etc/cni/net.d/10-xk8s.conflist"]
    assert done["restarted"] == []
    # A pod is started with it: the runtime has read the file again.
    said = {result["name"]: result for result in cluster.json("check", "--json")}
    assert said["pod network"]["detail"] == "a pod of vm-001 has an MTU of 1400"
    config = json.loads(run(cluster, "cat", *done["files"]))
    assert config["plugins"][0]["mtu"] == 1400
    assert pods(cluster, "coredns").keys() == before.keys()


def test_kube_proxy_changes_its_mode(cluster: Xk8s) -> None:
    done = apply(cluster, "-s", "kubernetes.proxy_mode=ipvs")
    assert done["restarted"] == ["kube-proxy.service"]
    assert run(cluster, "curl", "--silent", "http://localhost:10249/proxyMode") == "ipvs"
    assert "ip_vs" in run(cluster, "cat", "/proc/modules")
    # The setting before is still there.
    assert "1400" in run(cluster, "cat", "/etc/cni/net.d/10-xk8s.conflist")


def test_pods_outlive_their_runtime(cluster: Xk8s) -> None:
    before = pods(cluster, "coredns")
    done = apply(cluster, "-s", "containerd.log_level=debug")
    assert done["restarted"] == ["containerd.service"]
    after = pods(cluster, "coredns")
    assert after.keys() == before.keys()
    for name, pod in after.items():
        started = [
            document["status"]["containerStatuses"][0]["containerID"]
            for document in (pod, before[name])
        ]
        assert started[0] == started[1]


def test_coredns_gets_its_configuration_and_other_pods(cluster: Xk8s) -> None:
    before = pods(cluster, "coredns")
    done = apply(cluster, "-s", "coredns.upstream=off")
    assert done["restarted"] == ["kube-manifests.service"]
    said = kubectl(cluster, "-n", "kube-system", "get", "configmap", "coredns", "-o", "json")
    assert "forward" not in json.loads(said)["data"]["Corefile"]
    assert not before.keys() & pods(cluster, "coredns").keys()


def test_a_new_overlay_comes_with_its_image_and_goes_to_a_snapshot(cluster: Xk8s) -> None:
    done = apply(cluster, "mconnect")
    assert "containerd-store" in done["layers"]
    kubectl(cluster, "rollout", "status", "deployment/mconnect", "--timeout=600s")
    assert "mconnect" in cluster.json("status", "--json")["overlays"]
    cluster("snapshot", "save", "with", timeout=600)
    cluster("reset", timeout=600)
    cluster("check", timeout=1800)
    assert len(pods(cluster, "mconnect")) == 4
    cluster("snapshot", "remove", "with")


def test_objects_of_a_manifest_that_is_gone_go_too(cluster: Xk8s) -> None:
    apply(cluster, "-s", "mconnect.apply=false")
    said = kubectl(cluster, "get", "deployments,services", "-o", "name")
    assert said.split() == ["service/kubernetes"]


def test_what_takes_a_boot_is_refused(cluster: Xk8s) -> None:
    words = ("-s", "debian.packages=nmap", "-s", "cluster.cpus=vm-001=1")
    # Before anything is built: a base system takes minutes.
    said = cluster("apply", *words, code=4, timeout=60)
    assert "kernel or initramfs changed" in said
    assert "vm-001 has 1 CPUs" in said


def test_an_api_server_that_ends_before_it_is_ready_is_started_again(cluster: Xk8s) -> None:
    """It does so by itself when its first check of addresses takes more than a minute; on a machine
    that slow it may do it again, so whether it gets ready is no part of this.
    """
    server = "kube-apiserver.service"
    main = f"systemctl show --property=MainPID --value {server}"
    run(cluster, "systemctl", "stop", server)
    run(cluster, "systemctl", "start", "--no-block", server)
    state = f"systemctl show --property=SubState --value {server}"
    run(cluster, "sh", "-c", f'until [ "$({state})" = start-post ]; do sleep 0.2; done')
    ended = run(cluster, *main.split()).strip()
    run(cluster, "systemctl", "kill", "--kill-whom=main", "--signal=KILL", server)
    other = f'until pid=$({main}); [ "$pid" != 0 ] && [ "$pid" != {ended} ]; do sleep 0.2; done'
    run(cluster, "sh", "-c", other)
