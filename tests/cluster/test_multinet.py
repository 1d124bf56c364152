"""multinet on flannel: `up` passes its check, so pods reach each other by net1 with the largest
packet that fits. Here: who else reaches them, what comes of bad annotations, what pods leave.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cluster.cni_cluster import Cluster
from tests.cluster.pod_networks import POD_NETWORKS
from tests.conftest import Xk8s

pytestmark = pytest.mark.cluster

NETWORKS = "k8s.v1.cni.cncf.io/networks"

REFUSED = """\
import socket, sys
try:
    socket.create_connection((sys.argv[1], 9), 10)
except ConnectionRefusedError:
    print("refused")
"""


@pytest.fixture(scope="module")
def multinet(xk8s: Xk8s) -> Iterator[Cluster]:
    with POD_NETWORKS.running(xk8s):
        yield Cluster(xk8s, POD_NETWORKS.name)


def apply(cluster: Cluster, name: str, node: str, networks: str) -> None:
    """A pod that does nothing, with what it asks for."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": {NETWORKS: networks}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "tolerations": [{"operator": "Exists"}],
            "containers": [
                {
                    "name": "busybox",
                    "image": "xk8s.local/probe:1",
                    "imagePullPolicy": "Never",
                    "command": [
                        "/busybox",
                        "sh",
                        "-c",
                        "while :; do /busybox sleep 9; done",
                        f"pod-{name}",  # for pgrep to find
                    ],
                    "volumeMounts": [{"name": "busybox", "mountPath": "/busybox"}],
                }
            ],
            "volumes": [
                {"name": "busybox", "hostPath": {"path": "/usr/bin/busybox", "type": "File"}}
            ],
        },
    }
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(pod))


def until(what: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, what
        time.sleep(1)
    return found


def in_pod(cluster: Cluster, node: str, name: str, *words: str) -> str:
    """The node's programs in the pod's network: containers may not open raw sockets."""
    process = cluster.guest(node, "pgrep", "--oldest", "--full", f"done pod-{name}$").strip()
    return cluster.guest(node, "nsenter", "-t", process, "-n", *words)


def address(cluster: Cluster, node: str, name: str, interface: str) -> str:
    said = in_pod(cluster, node, name, "ip", "-json", "-4", "address", "show", interface)
    (link,) = json.loads(said)
    (found,) = link["addr_info"]
    text: str = found["local"]
    return text


def test_pods_are_reached_on_network_2_by_each_other_the_router_and_this_machine(
    multinet: Cluster,
) -> None:
    for number in (1, 2):
        apply(multinet, f"far-{number}", f"vm-00{number}", "net2")
    for number in (1, 2):
        multinet.kubectl("wait", "--for=condition=Ready", f"pod/far-{number}", "--timeout=600s")
    one, other = (address(multinet, f"vm-00{n}", f"far-{n}", "net1") for n in (1, 2))
    assert one.startswith("172.18.1.")
    assert other.startswith("172.18.2.")
    for target in (other, "192.168.2.201", "1000::2:c0a8:2c9", "192.168.2.2"):
        way = in_pod(multinet, "vm-001", "far-1", "ip", "route", "get", target)
        assert "dev net1" in way
        assert "via" not in way
        in_pod(multinet, "vm-001", "far-1", "ping", "-c1", "-W5", target)
    # The cluster's own network is as it was.
    in_pod(multinet, "vm-001", "far-1", "ping", "-c1", "-W5", "192.168.1.2")
    multinet.guest("vm-201", "ping", "-c1", "-W5", one)
    # Nothing listens in the pod, and it is the pod that says so.
    said = multinet("net", "exec", "--", "python3", "-c", REFUSED, other)
    assert said.strip() == "refused"


def held(cluster: Cluster, node: str) -> set[str]:
    """Addresses of pods that the node has given."""
    words = ("find", "/run/multinet/addresses/net2", "-name", "172.18.*")
    return {path.rpartition("/")[2] for path in cluster.guest(node, *words).split()}


def test_a_pod_has_as_many_as_it_asks_for_and_gives_all_back(multinet: Cluster) -> None:
    apply(multinet, "two", "vm-002", "net2, net2")
    multinet.kubectl("wait", "--for=condition=Ready", "pod/two", "--timeout=600s")
    mine = {address(multinet, "vm-002", "two", name) for name in ("net1", "net2")}
    assert len(mine) == 2
    assert mine <= held(multinet, "vm-002")
    multinet.kubectl("delete", "pod", "two", "--wait")
    until(lambda: not mine & held(multinet, "vm-002"))
    # No other pod has a net2.
    until(lambda: "-net2" not in multinet.guest("vm-002", "ls", "/run/multinet/results"))


def test_a_pod_that_asks_for_what_is_not_there_says_why_and_can_be_deleted(
    multinet: Cluster,
) -> None:
    apply(multinet, "nope", "vm-002", "net2,nope")
    apply(multinet, "long", "vm-002", '[{"name":"net2"}]')

    def said(pod: str) -> str:
        words = ("get", "events", "--field-selector", f"involvedObject.name={pod}", "-o", "json")
        return " ".join(event["message"] for event in json.loads(multinet.kubectl(*words))["items"])

    until(lambda: 'there is no network "nope" on this node' in said("nope").replace("\\", ""))
    until(lambda: "no JSON" in said("long"))
    multinet.kubectl("delete", "pod", "nope", "long", "--wait", "--timeout=300s")
    assert "NotFound" in multinet.kubectl("get", "pod", "nope", code=1)


def test_nothing_is_left_of_pods_that_are_gone(multinet: Cluster) -> None:
    multinet.kubectl("delete", "pod", "--all", "--wait", "--timeout=300s")
    for node in ("vm-001", "vm-002"):
        until(lambda node=node: not held(multinet, node))
        until(lambda node=node: not multinet.guest(node, "ls", "/run/multinet/results").strip())
