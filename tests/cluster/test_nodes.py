"""Nodes that are rebooted, killed, paused and started, of the plain base system."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.reboot import boot_id, until
from tests.conftest import Xk8s

pytestmark = pytest.mark.cluster

NAME = "life"
UP = ("debian", "--nodes", "2", "--routers", "0", "--memory", "384")


@pytest.fixture(scope="module")
def cluster(xk8s: Xk8s) -> Iterator[Xk8s]:
    try:
        xk8s("--name", NAME, "up", *UP, timeout=1800)
        yield xk8s
    finally:
        xk8s("--name", NAME, "down")
        assert xk8s.left() == []


def run(cluster: Xk8s, *words: str, code: int = 0) -> str:
    return cluster("--name", NAME, *words, code=code, timeout=1200)


def guest(cluster: Xk8s, node: str, *argv: str) -> str:
    return run(cluster, "exec", "-n", node, "--", *argv)


def states(cluster: Xk8s) -> dict[str, str]:
    status = cluster.json("--name", NAME, "status", "--json")
    return {node["name"]: node["state"] for node in status["nodes"]}


def pid(cluster: Xk8s, node: str) -> int:
    status = cluster.json("--name", NAME, "status", "--json")
    return next(found["pid"] for found in status["nodes"] if found["name"] == node)


def reaches(cluster: Xk8s, source: str, target: str) -> None:
    """Now, or soon: a guest's agent answers before its addresses are there."""

    def pings() -> bool:
        words = ("exec", "-n", source, "--", "ping", "-c", "1", "-w", "10", target)
        done = cluster.start("--name", NAME, *words)
        done.communicate(timeout=600)
        return done.returncode == 0

    until(pings)


def test_a_guest_that_reboots_comes_back_and_gets_what_was_applied_again(
    cluster: Xk8s, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    (work / "etc").mkdir(parents=True)
    (work / "etc/motd").write_text("applied\n")
    run(cluster, "apply", str(work))
    assert guest(cluster, "vm-002", "cat", "/etc/motd") == "applied\n"
    before, process = boot_id(cluster, NAME, "vm-002"), pid(cluster, "vm-002")
    # From inside, as a test of a real system does it.
    guest(cluster, "vm-002", "sh", "-c", "(sleep 1; systemctl reboot) >/dev/null 2>&1 &")
    until(lambda: boot_id(cluster, NAME, "vm-002") not in ("", before))
    assert pid(cluster, "vm-002") == process
    reaches(cluster, "vm-001", "vm-002")
    reaches(cluster, "vm-002", "192.168.1.1")
    assert guest(cluster, "vm-002", "hostname") == "vm-002\n"
    assert "applied" not in guest(cluster, "vm-002", "sh", "-c", "cat /etc/motd || true")
    assert "vm-002 has rebooted and lacks what was applied" in run(cluster, "check", code=9)
    status = cluster.json("--name", NAME, "status", "--json")
    assert [node["rebooted"] for node in status["nodes"]] == [False, True]
    told = cluster.json("--name", NAME, "apply", "--json")
    assert told["rebooted"] == ["vm-002"]
    assert guest(cluster, "vm-002", "cat", "/etc/motd") == "applied\n"
    run(cluster, "check")


def test_a_paused_node_is_worked_around_and_runs_on_with_the_right_time(cluster: Xk8s) -> None:
    run(cluster, "node", "pause", "vm-002")
    assert states(cluster) == {"vm-001": "running", "vm-002": "paused"}
    assert "vm-002 is paused: xk8s node resume vm-002" in run(
        cluster, "exec", "-n", "vm-002", "--", "true", code=8
    )
    assert cluster.json("--name", NAME, "apply", "--json")["skipped"] == ["vm-002"]
    assert "vm-002 is paused" in run(cluster, "check", code=9)
    assert "vm-002 is paused" in run(cluster, "snapshot", "save", "x", code=10)
    time.sleep(5)
    run(cluster, "node", "resume", "vm-002")
    before = time.time()
    now = float(guest(cluster, "vm-002", "date", "+%s.%N"))
    assert before - 1 < now < time.time() + 1
    run(cluster, "apply")
    run(cluster, "check")


def test_a_killed_node_is_worked_around_and_starts_again(cluster: Xk8s) -> None:
    run(cluster, "node", "kill", "vm-002")
    assert states(cluster) == {"vm-001": "running", "vm-002": "dead"}
    assert guest(cluster, "vm-001", "hostname") == "vm-001\n"
    assert cluster.json("--name", NAME, "apply", "--json")["skipped"] == ["vm-002"]
    assert "vm-002 is dead: xk8s node start vm-002" in run(cluster, "check", code=9)
    assert "vm-002 is dead" in run(cluster, "exec", "-n", "vm-002", "--", "true", code=8)
    assert "vm-001" in run(cluster, "logs", "-A", "-n", "5")
    assert run(cluster, "logs", "vm-002", "console")
    told = cluster.json("--name", NAME, "node", "start", "vm-002", "--json", timeout=1200)
    assert told["started"] == ["vm-002"]
    assert "addresses" in told["checks"]
    assert guest(cluster, "vm-002", "cat", "/etc/motd") == "applied\n"
    reaches(cluster, "vm-001", "vm-002")
    assert "nothing to start" in run(cluster, "node", "start", "vm-002")
    run(cluster, "check")


def test_a_node_is_shut_down_and_started(cluster: Xk8s) -> None:
    before = boot_id(cluster, NAME, "vm-002")
    told = cluster.json("--name", NAME, "node", "reboot", "vm-002", "--json", timeout=1200)
    assert told["started"] == ["vm-002"]
    assert boot_id(cluster, NAME, "vm-002") != before
    reaches(cluster, "vm-001", "vm-002")


def test_a_dead_node_is_replaced(cluster: Xk8s) -> None:
    run(cluster, "node", "kill", "vm-002")
    assert cluster.json("--name", NAME, "scale", "--nodes", "1", "--json")["removed"] == ["vm-002"]
    told = cluster.json("--name", NAME, "scale", "--nodes", "2", "--json", timeout=1200)
    assert told["added"] == ["vm-002"]
    reaches(cluster, "vm-001", "vm-002")
    run(cluster, "check")


def test_reset_brings_dead_nodes_back_and_a_paused_one_goes_down(cluster: Xk8s) -> None:
    run(cluster, "node", "kill", "vm-002")
    run(cluster, "reset")
    assert states(cluster) == {"vm-001": "running", "vm-002": "running"}
    run(cluster, "node", "pause", "vm-002")
    run(cluster, "down")
    assert cluster.left() == []
