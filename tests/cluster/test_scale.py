"""Running clusters with more and with fewer VMs, of the plain base system."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.cluster.test_broken_starts import wait_for
from tests.conftest import Xk8s

pytestmark = pytest.mark.cluster

NAME = "sc"
ONE = ("--nodes", "1", "--routers", "0")


@pytest.fixture(scope="module")
def cluster(xk8s: Xk8s) -> Iterator[Xk8s]:
    try:
        xk8s("--name", NAME, "up", "debian", *ONE, "--memory", "control-plane=384",
             "--memory", "worker=384", "--memory", "router=384", timeout=1800)  # fmt: skip
        yield xk8s
    finally:
        xk8s("--name", NAME, "down")
        assert xk8s.left() == []


def guest(cluster: Xk8s, node: str, *argv: str, code: int = 0) -> str:
    return cluster("--name", NAME, "exec", node, "--", *argv, code=code)


def pids(node: str) -> list[int]:
    """Of the QEMUs of this module's cluster for that node."""
    found = subprocess.run(
        ["pgrep", "-f", f"^qemu-system[^ ]* -name {NAME}/{node},"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return [int(word) for word in found.stdout.split()]


def names(cluster: Xk8s) -> list[str]:
    status = cluster.json("--name", NAME, "status", "--json")
    assert status["phase"] == "running"
    return [node["name"] for node in status["nodes"]]


def identity(cluster: Xk8s, node: str) -> tuple[str, ...]:
    script = (
        "cat /etc/machine-id /proc/sys/kernel/random/boot_id;head -c 16 /dev/urandom | od -An -tx1"
    )
    return tuple(guest(cluster, node, "sh", "-c", script).splitlines())


def test_new_nodes_join_while_the_first_one_goes_on(cluster: Xk8s) -> None:
    guest(cluster, "vm-001", "sh", "-c", "echo mine >/run/mine")
    before = guest(cluster, "vm-001", "cat", "/proc/sys/kernel/random/boot_id")
    told = cluster.json(
        "--name", NAME, "scale", "--nodes", "3", "--routers", "1", "--json", timeout=600
    )
    assert (told["added"], told["removed"]) == (["vm-002", "vm-003", "vm-201"], [])
    assert told["checks"] == ["addresses"]
    assert names(cluster) == ["vm-001", "vm-002", "vm-003", "vm-201"]
    assert guest(cluster, "vm-001", "cat", "/proc/sys/kernel/random/boot_id") == before
    assert guest(cluster, "vm-001", "cat", "/run/mine") == "mine\n"
    # Both ways, by names, and to the far side of the new router.
    for source, target in (("vm-001", "vm-003"), ("vm-003", "vm-001"), ("vm-002", "vm-201")):
        guest(cluster, source, "ping", "-c", "1", "-w", "10", target)
    assert "via 192.168.1.201" in guest(cluster, "vm-001", "ip", "route", "get", "192.168.2.7")
    guest(cluster, "vm-001", "ping", "-c", "1", "-w", "10", "192.168.2.201")


def test_no_two_nodes_are_the_same(cluster: Xk8s) -> None:
    seen = [identity(cluster, name) for name in ("vm-001", "vm-002", "vm-003")]
    for values in zip(*seen, strict=True):
        assert len({*values}) == 3


def test_a_scaled_cluster_is_saved_and_comes_back(cluster: Xk8s) -> None:
    guest(cluster, "vm-003", "sh", "-c", "echo here >/run/here")
    cluster("--name", NAME, "snapshot", "save", "three", timeout=600)
    guest(cluster, "vm-003", "rm", "/run/here")
    cluster("--name", NAME, "snapshot", "restore", "three", timeout=600)
    assert guest(cluster, "vm-003", "cat", "/run/here") == "here\n"
    guest(cluster, "vm-001", "ping", "-c", "1", "-w", "10", "vm-003")


def test_the_highest_numbers_leave(cluster: Xk8s) -> None:
    told = cluster.json("--name", NAME, "scale", "--nodes", "2", "--json", timeout=600)
    assert (told["added"], told["removed"]) == ([], ["vm-003"])
    assert names(cluster) == ["vm-001", "vm-002", "vm-201"]
    assert "vm-003" not in guest(cluster, "vm-001", "cat", "/etc/hosts")
    left = [process for process in cluster.left() if "vm-003" in process]
    assert left == []
    guest(cluster, "vm-002", "ping", "-c", "1", "-w", "10", "vm-001")
    # And back: restored clusters grow, too.
    cluster("--name", NAME, "scale", "--nodes", "3", timeout=600)
    guest(cluster, "vm-001", "ping", "-c", "1", "-w", "10", "vm-003")


def test_what_cannot_be_changes_nothing(cluster: Xk8s) -> None:
    def processes() -> dict[str, int]:
        status = cluster.json("--name", NAME, "status", "--json")
        assert status["phase"] == "running"
        return {node["name"]: node["pid"] for node in status["nodes"]}

    before = processes()
    assert "nodes" in cluster("--name", NAME, "scale", "--nodes", "0", code=2)
    assert "how many" in cluster("--name", NAME, "scale", code=2)
    assert "already has that many" in cluster("--name", NAME, "scale", "--nodes", "3")
    assert processes() == before


def test_a_node_that_does_not_boot_does_not_stay(cluster: Xk8s) -> None:
    """Its VM ends before it is up: the cluster is as it was, and grows the next time."""
    before = cluster.left()
    growing = cluster.start("--name", NAME, "scale", "--nodes", "4")

    def ended() -> bool:
        # Every one: when that which was to be a copy of a template ends, another one boots.
        for pid in pids("vm-004"):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return growing.poll() is not None

    wait_for(ended, seconds=120)
    _, err = growing.communicate(timeout=120)
    assert growing.returncode == 8, err
    assert "vm-004" in err
    assert names(cluster) == ["vm-001", "vm-002", "vm-003", "vm-201"]
    after = cluster.left()
    assert [what for what in after if "vm-004" in what] == []
    # Nothing but the log of the attempt, for `xk8s report`.
    (log,) = set(after) - set(before)
    assert log.endswith("-scale.jsonl")
    assert set(before) <= set(after)
    cluster("--name", NAME, "check")
