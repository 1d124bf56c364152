"""kube-router with its policies; the checks of its `up` are those of every CNI."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.cni_cluster import Cluster, cluster
from tests.conftest import Xk8s

pytestmark = pytest.mark.cluster

BUSYBOX = "/busybox"


@pytest.fixture(scope="module")
def kube_router(xk8s: Xk8s) -> Iterator[Cluster]:
    yield from cluster(xk8s, "kube-router")


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


def test_a_network_policy_is_enforced(kube_router: Cluster) -> None:
    sleep = ("sleep", "36000")
    objects = [
        pod("server", "vm-002", "nc", "-ll", "-p", "8080", "-e", BUSYBOX, "echo", "served"),
        pod("friend", "vm-001", *sleep),
        pod("stranger", "vm-001", *sleep),
    ]
    # To validate them kubectl asks for all of OpenAPI, which takes half a minute on a busy machine.
    listed = {"apiVersion": "v1", "kind": "List", "items": objects}
    kube_router.kubectl("apply", "--validate=false", "-f", "-", stdin=json.dumps(listed))
    kube_router.kubectl(
        "wait", "--for=condition=Ready", "pods/server", "pods/friend", "pods/stranger",
        "--timeout=600s",
    )  # fmt: skip
    address = kube_router.kubectl("get", "pod", "server", "-o=jsonpath={.status.podIP}")

    def served(client: str) -> bool:
        """A connection of the pod, once or again within half a minute."""
        shell = f"for i in 1 2 3; do {BUSYBOX} nc -w 5 {address} 8080 </dev/null && exit; done"
        words = ("exec", client, "--", BUSYBOX, "sh", "-c", f"{shell}; exit 0")
        return "served" in kube_router.kubectl(*words)

    assert served("friend")
    assert served("stranger")
    kube_router.kubectl("apply", "--validate=false", "-f", "-", stdin=json.dumps(policy()))
    kube_router.guest(
        "vm-002", "sh", "-c",
        "for i in $(seq 60); do iptables-save | grep -q friends && exit; sleep 1; done; exit 1",
    )  # fmt: skip
    assert not served("stranger")
    assert served("friend")
    kube_router.kubectl("delete", "networkpolicy", "friends")
