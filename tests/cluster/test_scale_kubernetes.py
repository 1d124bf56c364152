"""The README's cluster with one more node and without it: real pods come to it, and leave it."""

from __future__ import annotations

import pytest

from tests.cluster.kubectl import kubectl_of
from tests.cluster.shared import README
from tests.conftest import Xk8s

pytestmark = pytest.mark.cluster


def nodes(cluster: Xk8s) -> list[str]:
    return kubectl_of(cluster, README.name)("get", "nodes", "-o", "name").split()


def test_kubernetes_nodes_join_and_are_drained(xk8s: Xk8s) -> None:
    """The new node is Ready, runs a pod, and its pod moves when it leaves."""
    with README.running(xk8s) as cluster:
        told = cluster.json("scale", "--nodes", "3", "--json", timeout=1200)
        assert told["added"] == ["vm-003"]
        assert "nodes" in told["checks"]
        assert nodes(cluster) == ["node/vm-001", "node/vm-002", "node/vm-003"]
        told = cluster.json("scale", "--nodes", "2", "--json", timeout=1200)
        assert told["removed"] == ["vm-003"]
        assert nodes(cluster) == ["node/vm-001", "node/vm-002"]
