"""A control plane that loses power, or reboots, comes back with all that the API server had said
yes to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cluster.kubectl import kubectl_of
from tests.cluster.one_node import ONE_NODE, one_node
from tests.cluster.reboot import boot_id, until
from tests.conftest import Xk8s

pytestmark = pytest.mark.cluster

NODE = "vm-001"
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "stays"},
    "spec": {
        "selector": {"matchLabels": {"app": "stays"}},
        "template": {
            "metadata": {"labels": {"app": "stays"}},
            "spec": {
                "containers": [
                    {
                        "name": "stays",
                        "image": "t.local/files:1",
                        "imagePullPolicy": "Never",
                        "command": ["/kubectl", "proxy"],
                        "volumeMounts": [{"name": "kubectl", "mountPath": "/kubectl"}],
                    }
                ],
                "volumes": [
                    {"name": "kubectl", "hostPath": {"path": "/usr/bin/kubectl", "type": "File"}}
                ],
            },
        },
    },
}


@pytest.fixture(scope="module")
def cluster(xk8s: Xk8s) -> Iterator[Xk8s]:
    with one_node(xk8s) as command:
        kubectl(command, "apply", "-f", "-", stdin=json.dumps(DEPLOYMENT))
        runs(command)
        yield command


def kubectl(cluster: Xk8s, *words: str, stdin: str | None = None) -> str:
    return kubectl_of(cluster, ONE_NODE.name)(*words, stdin=stdin)


def runs(cluster: Xk8s) -> None:
    kubectl(cluster, "rollout", "status", "--timeout=300s", "deployment/stays")


def names(cluster: Xk8s) -> set[str]:
    found = kubectl(cluster, "get", "configmap", "-o", "jsonpath={.items[*].metadata.name}")
    return {*found.split()} - {"kube-root-ca.crt"}


def test_objects_outlive_a_loss_of_power(cluster: Xk8s) -> None:
    kubectl(cluster, "create", "configmap", "saved")
    cluster("snapshot", "save", "with-objects")
    for number in range(20):
        kubectl(cluster, "create", "configmap", f"later-{number}")
    cluster("node", "kill", NODE)
    cluster("node", "start", NODE, timeout=1200)
    assert names(cluster) == {"saved", *(f"later-{number}" for number in range(20))}
    runs(cluster)


def test_a_snapshot_has_the_objects_of_its_time_and_a_reboot_keeps_these(cluster: Xk8s) -> None:
    cluster("snapshot", "restore", "with-objects")
    assert names(cluster) == {"saved"}
    kubectl(cluster, "create", "configmap", "since")
    before = boot_id(cluster, ONE_NODE.name, NODE)
    cluster("exec", "-n", NODE, "--", "sh", "-c", "(sleep 1; systemctl reboot) >/dev/null 2>&1 &")
    until(lambda: boot_id(cluster, ONE_NODE.name, NODE) not in ("", before))
    cluster("check", timeout=1200)
    assert names(cluster) == {"saved", "since"}
    runs(cluster)
