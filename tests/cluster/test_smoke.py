"""The README's cluster is built, booted, saved and restored: first of all, in every run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.cluster.kubectl import kubectl_of
from tests.cluster.shared import README
from tests.conftest import Xk8s

pytestmark = [pytest.mark.cluster, pytest.mark.smoke]


@pytest.fixture(scope="module")
def built(xk8s: Xk8s) -> None:
    """All of it is compiled or fetched while no VM needs the CPU."""
    xk8s("artifacts", *README.up, "--fetch", timeout=3600)


@pytest.fixture(scope="module")
def cluster(built: None, xk8s: Xk8s) -> Iterator[Xk8s]:
    with README.running(xk8s) as command:
        yield command


def guest(cluster: Xk8s, node: str, *words: str) -> str:
    return cluster("exec", node, "--", *words)


@pytest.mark.timeout(3900)
def test_its_programs_are_built(built: None) -> None:
    """In a test of its own: with empty caches that takes longer than any boot."""


def test_it_boots_and_is_saved(cluster: Xk8s) -> None:
    status = cluster.json("status", "--json")
    assert status["phase"] == "running"
    assert {"boot", "save", "checks after save"} <= set(status["seconds"])
    nodes = json.loads(kubectl_of(cluster, README.name)("get", "nodes", "-ojson"))["items"]
    assert [node["metadata"]["name"] for node in nodes] == ["vm-001", "vm-002"]


def test_connections_from_outside_are_answered_by_all_pods(cluster: Xk8s) -> None:
    words = ("mconnect", "--address", "10.0.0.2:5001", "--nconn", "100", "--json")
    tally = cluster.json(*words, timeout=900)
    assert tally["failed"] == 0
    assert len(tally["answers"]) == 4


def test_the_next_up_restores_the_saved_cluster(cluster: Xk8s) -> None:
    before = cluster.json("status", "--json")
    guest(cluster, "vm-001", "touch", "/root/since-the-save")
    cluster("down")
    cluster("up", *README.up, timeout=900)
    after = cluster.json("status", "--json")
    assert "restore" in after["seconds"], after["seconds"]
    assert "boot" not in after["seconds"]
    assert sum(after["seconds"].values()) < sum(before["seconds"].values())
    # As it was saved, and its clocks are the host's.
    cluster("exec", "vm-001", "--", "test", "-e", "/root/since-the-save", code=1)
    for node in ("vm-001", "vm-002", "vm-201"):
        assert abs(int(guest(cluster, node, "date", "+%s")) - time.time()) < 30


def test_everything_works_after_a_restore(cluster: Xk8s) -> None:
    results = cluster.json("check", "--json", timeout=900)
    assert all(result["ok"] for result in results), results
    # To the cluster no time passed: no node's lease ran out when the clocks were stepped.
    said = kubectl_of(cluster, README.name)("get", "events", "-A", "-ojson")
    reasons = {event["reason"] for event in json.loads(said)["items"]}
    assert "NodeNotReady" not in reasons, reasons
