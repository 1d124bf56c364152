"""Saved and restored clusters of real VMs of the plain base system: connections, clocks, random
numbers, and what happens when memory cannot be shared.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Xk8s

pytestmark = pytest.mark.cluster

NAME = ("--name", "snap")
NODES = ("vm-001", "vm-002")
UP = ("up", "debian", "--nodes", "2", "--routers", "0", "--memory", "384")


@pytest.fixture(scope="module")
def cluster(xk8s: Xk8s) -> Iterator[Xk8s]:
    """Two nodes, with a stream of numbers from one to the other on one TCP connection."""
    xk8s(*NAME, *UP, timeout=1800)
    run(xk8s, "vm-002", "systemd-run --unit=sink sh -c 'busybox nc -l -p 7000 >/run/stream'")
    time.sleep(1)
    count = "i=0; while sleep 0.05; do i=$((i+1)); echo $i; done"
    run(
        xk8s, "vm-001",
        f"systemd-run --unit=source sh -c '({count.replace('$', '$$')}) | nc 192.168.1.2 7000'",
    )  # fmt: skip
    try:
        grows(xk8s, stream(xk8s))
        yield xk8s
    finally:
        xk8s(*NAME, "down", timeout=120)
        for snapshot in xk8s.json("snapshot", "list", "--json"):
            if snapshot["cluster"] == "snap":
                xk8s(*NAME, "snapshot", "remove", snapshot["label"])


def run(xk8s: Xk8s, node: str, script: str) -> str:
    return xk8s(*NAME, "exec", node, "--", "sh", "-c", script)


def stream(xk8s: Xk8s) -> int:
    """The last number that came; all before it did."""
    lines = run(xk8s, "vm-002", "cat /run/stream").splitlines()
    numbers = [int(line) for line in lines[:-1]]  # the last one may be half a line
    assert numbers == list(range(1, len(numbers) + 1))
    return len(numbers)


def grows(xk8s: Xk8s, before: int) -> None:
    deadline = time.monotonic() + 60
    while stream(xk8s) <= before + 10:
        assert time.monotonic() < deadline, "the connection does not go on"
        time.sleep(0.2)


def late(xk8s: Xk8s, node: str) -> float:
    """By how many seconds the node's clock differs from ours, at least."""
    before = time.time()
    guest = float(run(xk8s, node, "date +%s.%N"))
    after = time.time()
    return max(before - guest, guest - after, 0.0)


def reseeds(xk8s: Xk8s, node: str) -> int:
    return run(xk8s, node, "dmesg").count("crng reseeded due to virtual machine fork")


def save(xk8s: Xk8s, label: str) -> Path:
    xk8s(*NAME, "snapshot", "save", label, timeout=900)
    return xk8s.root / "s" / "snapshots" / "snap" / label


def generations(xk8s: Xk8s) -> list[int]:
    record = json.loads((xk8s.root / "s" / "clusters" / "snap" / "record.json").read_text())
    return [node["generation"] for node in record["nodes"]]


def test_connections_and_clocks_survive_save_and_restore(cluster: Xk8s) -> None:
    for node in NODES:  # as if the snapshot were an hour old
        run(cluster, node, "date -s @$(($(date +%s) - 3600))")
        assert late(cluster, node) > 3000
    before = stream(cluster)
    # It was saved by `up` and so has memory of its own: that is shared first, VM by VM.
    where = save(cluster, "flowing")
    assert (where / "vm-001.ram").exists()
    assert generations(cluster)[0] > 2
    assert [late(cluster, node) < 0.5 for node in NODES] == [True, True]
    grows(cluster, before)
    seen = []
    for _ in range(2):
        cluster(*NAME, "snapshot", "restore", "flowing", timeout=900)
        bytes_of = "head -c 16 /dev/urandom | od -An -tx1"
        seen += [run(cluster, node, bytes_of) for node in NODES]
        assert [late(cluster, node) < 0.5 for node in NODES] == [True, True]
        grows(cluster, before)
    # No two restores, and no two nodes of one, have the same random numbers.
    assert len(set(seen)) == 4, seen


def test_a_restored_kernel_knows_that_it_is_a_copy(cluster: Xk8s) -> None:
    before = [reseeds(cluster, node) for node in NODES]
    save(cluster, "copied")
    cluster(*NAME, "reset", timeout=900)
    # As often again as new processes took over.
    assert all(reseeds(cluster, n) > b for n, b in zip(NODES, before, strict=True))


def test_a_restored_cluster_is_saved_and_restored_again(cluster: Xk8s) -> None:
    run(cluster, "vm-001", "echo once >/run/mark")
    save(cluster, "one")
    run(cluster, "vm-001", "echo twice >>/run/mark")
    save(cluster, "two")
    run(cluster, "vm-001", "rm /run/mark")
    cluster(*NAME, "snapshot", "restore", "one", timeout=900)
    assert run(cluster, "vm-001", "cat /run/mark") == "once\n"
    cluster(*NAME, "snapshot", "restore", "two", timeout=900)
    assert run(cluster, "vm-001", "cat /run/mark") == "once\ntwice\n"
    grows(cluster, stream(cluster))
    for label in ("one", "two"):
        assert "is intact" in cluster(*NAME, "snapshot", "verify", label)


def test_without_room_to_share_memory_it_is_written_while_all_stands_still(
    cluster: Xk8s,
) -> None:
    before = stream(cluster)
    generation = generations(cluster)
    limit = 300 << 20  # less than a VM has: QEMU cannot make a file for it

    def less() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(
        [sys.executable, "-m", "xk8s.cli", *NAME, "snapshot", "save", "still"],
        env=cluster.environment, preexec_fn=less, capture_output=True, text=True, check=False,
        timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "all memory is written while the cluster is paused" in done.stderr
    assert generations(cluster) == generation  # the same processes
    assert len([process for process in cluster.processes() if "snap/vm-001" in process]) == 1
    assert [late(cluster, node) < 0.5 for node in NODES] == [True, True]
    grows(cluster, before)
    cluster(*NAME, "snapshot", "restore", "still", timeout=900)
    grows(cluster, before)
    assert "is intact" in cluster(*NAME, "snapshot", "verify", "still")


def test_without_room_on_the_disk_all_goes_on(cluster: Xk8s) -> None:
    before = stream(cluster)
    small = cluster.root / "s" / "snapshots" / "snap"
    # A small file system there, which nobody else sees.
    script = 'mount -t tmpfs -o size=30m,mode=700 tmpfs "$0"; exec "$@"'
    namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", script, str(small)]
    if subprocess.run([*namespace, "true"], check=False).returncode != 0:
        pytest.skip("this machine permits no mount in a user namespace")
    done = subprocess.run(
        [*namespace, sys.executable, "-m", "xk8s.cli", *NAME, "snapshot", "save", "none"],
        env=cluster.environment, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 5, done.stderr
    assert "not enough space for the snapshot: it takes" in done.stderr
    assert "the cluster keeps running without one" in done.stderr
    labels = [snapshot["label"] for snapshot in cluster.json("snapshot", "list", "--json")]
    assert "none" not in labels
    grows(cluster, before)
    # Its processes see the small file system for good: on with others.
    cluster(*NAME, "snapshot", "restore", "still", timeout=900)
    grows(cluster, stream(cluster))


def test_a_save_that_is_killed_while_memory_is_shared_leaves_a_running_cluster(
    cluster: Xk8s,
) -> None:
    before = stream(cluster)
    save_ = cluster.start(*NAME, "snapshot", "save", "killed")
    deadline = time.monotonic() + 60
    while len([process for process in cluster.processes() if "snap/vm-001" in process]) < 2:
        assert time.monotonic() < deadline
        assert save_.poll() is None
        time.sleep(0.01)
    os.kill(save_.pid, signal.SIGINT)
    save_.communicate(timeout=60)
    assert save_.returncode == 130
    assert len([process for process in cluster.processes() if "qemu" in process]) == 2
    grows(cluster, before)
    labels = [snapshot["label"] for snapshot in cluster.json("snapshot", "list", "--json")]
    assert "killed" not in labels
    save(cluster, "after-all")
    grows(cluster, before)


def test_a_flipped_bit_is_found_by_verify(cluster: Xk8s) -> None:
    ram = save(cluster, "bad-disk") / "vm-002.ram"
    status = ram.stat()
    with ram.open("r+b") as file:
        file.seek(20 << 20)
        byte = file.read(1)
        file.seek(20 << 20)
        file.write(bytes((byte[0] ^ 1,)))
    os.utime(ram, ns=(status.st_atime_ns, status.st_mtime_ns))
    error = cluster(*NAME, "snapshot", "verify", "bad-disk", code=10)
    assert "vm-002.ram is damaged" in error
    # As after a start of this machine.
    (ram.parent / "verified").write_text("another boot\n")
    assert "vm-002.ram is damaged" in cluster(*NAME, "snapshot", "restore", "bad-disk", code=10)
    assert cluster.json(*NAME, "status", "--json")["phase"] == "running"
