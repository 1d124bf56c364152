"""Other CNIs than the bridge, of which most other files have one: flannel in a dual-stack cluster,
kube-router with its policies. `up` passes the checks of every CNI: pods reach those of the other
node with the largest packet that fits and no larger one, and names are resolved.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Xk8s

pytestmark = pytest.mark.cluster

OVERLAYS = ("kubernetes", "containerd", "coredns")
SMALL = ("--nodes", "2", "--routers", "0", "-s", "cluster.snapshot=false")
BUSYBOX = "/busybox"


class Cluster:
    """A running cluster with one CNI."""

    def __init__(self, xk8s: Xk8s, cni: str) -> None:
        self.xk8s, self.cni = xk8s, cni

    def __call__(self, *words: str, **more: Any) -> str:
        return self.xk8s("--name", self.cni, *words, **more)

    def json(self, *words: str, **more: Any) -> Any:
        return json.loads(self(*words, "--json", **more))

    def guest(self, node: str, *words: str, **more: Any) -> str:
        return self("exec", node, "--", *words, **more)

    def kubectl(self, *words: str, **more: Any) -> str:
        return self.guest("vm-001", "kubectl", *words, **more)


def cluster(xk8s: Xk8s, cni: str, *words: str) -> Iterator[Cluster]:
    made = Cluster(xk8s, cni)
    try:
        xk8s("artifacts", *OVERLAYS, cni, "--fetch", timeout=3600)
        made("up", *OVERLAYS, cni, *SMALL, *words, timeout=3000)
        yield made
    finally:
        made("down")


# --- flannel ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flannel(xk8s: Xk8s) -> Iterator[Cluster]:
    yield from cluster(xk8s, "flannel", "--ip-family", "dual")


def test_flannel_has_tunnels_in_both_families_to_the_planned_ranges(flannel: Cluster) -> None:
    routes = flannel.guest("vm-001", "ip", "route", "show", "11.0.2.0/24")
    assert "dev flannel.1" in routes
    routes = flannel.guest("vm-001", "ip", "-6", "route", "show", "1100::200/120")
    assert "dev flannel-v6.1" in routes
    # 70 bytes of a VXLAN over IPv6.
    config = json.loads(flannel.guest("vm-001", "cat", "/etc/cni/net.d/10-flannel.conflist"))
    assert config["plugins"][0]["delegate"]["mtu"] == 1430
    for node in ("vm-001", "vm-002"):
        log = flannel.guest(node, "journalctl", "--no-pager", "-u", "flanneld")
        assert "panic:" not in log


def test_a_pods_packets_leave_the_cluster_with_the_nodes_address(flannel: Cluster) -> None:
    for node, cidr in (("vm-001", "11.0.1.0/24"), ("vm-002", "11.0.2.0/24")):
        rules = flannel.guest(node, "nft", "list", "table", "ip", "flannel-ipv4")
        assert f"ip saddr {cidr} ip daddr 11.0.0.0/16 return" in rules


def test_own_plugin_and_another_backend_are_put_into_the_running_cluster(
    flannel: Cluster, tmp_path: Path
) -> None:
    """A plugin of the user in place of flannel's, and one more that it calls. The backend's MTU
    is the larger one, which the bridge that is there has not: hence the setting.
    """
    plan = flannel.xk8s.json("artifacts", *OVERLAYS, "flannel", "--json")["artifacts"]
    (made,) = (one for one in plan if one["name"] == "flannel-cni-plugin")
    shutil.copy(Path(made["path"]) / "flannel", tmp_path / "flannel-theirs")
    script = tmp_path / "flannel"
    script.write_text(
        '#!/bin/sh\n: > "/run/own-flannel-$CNI_COMMAND"\nexec /opt/cni/bin/flannel-theirs\n'
    )
    script.chmod(0o755)
    done = flannel.json(
        "apply", "-s", f"kubernetes.cni_dir={tmp_path}", "-s", "flannel.backend=host-gw",
        "-s", "kubernetes.pod_mtu=1430", timeout=1800,
    )["nodes"]  # fmt: skip
    for node in done:
        assert {"/opt/cni/bin/flannel", "/opt/cni/bin/flannel-theirs"} <= set(node["files"])
        assert node["restarted"] == ["flanneld.service"]
    # The checks made pods, so that the plugin was called on both nodes.
    for node, route in (
        ("vm-001", "11.0.2.0/24 via 192.168.1.2 dev eth1"),
        ("vm-002", "11.0.1.0/24 via 192.168.1.1 dev eth1"),
    ):
        flannel.guest(node, "ls", "/run/own-flannel-ADD")
        assert route in flannel.guest(node, "ip", "route")


def test_a_bad_directory_leaves_the_running_cluster_alone(flannel: Cluster, tmp_path: Path) -> None:
    said = flannel("apply", "-s", f"kubernetes.cni_dir={tmp_path / 'none'}", code=2, timeout=60)
    assert "there is no such directory" in said


# --- kube-router ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kube_router(xk8s: Xk8s) -> Iterator[Cluster]:
    yield from cluster(xk8s, "kube-router", "--ip-family", "dual")


def pod(name: str, node: str, *argv: str) -> dict[str, Any]:
    """A pod of the node's busybox; the image has nothing but a directory."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "main",
                    "image": "xk8s.local/probe:1",
                    "imagePullPolicy": "Never",
                    "command": [BUSYBOX, *argv],
                    "volumeMounts": [{"name": "busybox", "mountPath": BUSYBOX}],
                }
            ],
            "volumes": [{"name": "busybox", "hostPath": {"path": "/usr/bin/busybox"}}],
        },
    }


def policy() -> dict[str, Any]:
    """Only the pod ``friend`` may connect to the server."""
    friend = {"podSelector": {"matchLabels": {"app": "friend"}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "friends"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "server"}},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [friend]}],
        },
    }


def test_ranges_of_pods_are_learnt_by_bgp(kube_router: Cluster) -> None:
    routes = kube_router.guest("vm-001", "ip", "route", "show", "11.0.2.0/24")
    # 17 is the protocol that kube-router writes into the routes that it learnt.
    assert "via 192.168.1.2 dev eth1 proto 17" in routes
    assert "ESTAB" in kube_router.guest("vm-001", "ss", "-Htn", "( sport = 179 or dport = 179 )")


def test_a_network_policy_is_enforced_in_both_families(kube_router: Cluster) -> None:
    sleep = ("sleep", "36000")
    objects = [
        pod("server", "vm-002", "nc", "-ll", "-p", "8080", "-e", BUSYBOX, "echo", "served"),
        pod("friend", "vm-001", *sleep),
        pod("stranger", "vm-001", *sleep),
    ]
    listed = {"apiVersion": "v1", "kind": "List", "items": objects}
    kube_router.kubectl("apply", "-f", "-", stdin=json.dumps(listed))
    kube_router.kubectl(
        "wait", "--for=condition=Ready", "pods/server", "pods/friend", "pods/stranger",
        "--timeout=250s",
    )  # fmt: skip
    said = kube_router.kubectl("get", "pod", "server", "-o=jsonpath={.status.podIPs[*].ip}")
    addresses = said.split()
    assert [":" in one for one in addresses] == [False, True]

    def served(client: str, address: str) -> bool:
        """A connection of the pod, once or again within half a minute."""
        shell = f"for i in 1 2 3; do {BUSYBOX} nc -w 5 {address} 8080 </dev/null && exit; done"
        words = ("exec", client, "--", BUSYBOX, "sh", "-c", f"{shell}; exit 0")
        return "served" in kube_router.kubectl(*words)

    assert all(served(client, one) for client in ("friend", "stranger") for one in addresses)
    kube_router.kubectl("apply", "-f", "-", stdin=json.dumps(policy()))
    kube_router.guest(
        "vm-002", "sh", "-c",
        "for i in $(seq 60); do iptables-save | grep -q friends && exit; sleep 1; done; exit 1",
    )  # fmt: skip
    assert [served("stranger", one) for one in addresses] == [False, False]
    assert [served("friend", one) for one in addresses] == [True, True]
    kube_router.kubectl("delete", "networkpolicy", "friends")
