"""Changes put into clusters of real VMs that run: files, units, disks that come and go, snapshots
of what was changed, and `up` from the nearest snapshot.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Xk8s

pytestmark = pytest.mark.cluster

NAME = ("--name", "apply")
SMALL = ("--nodes", "1", "--routers", "0", "--memory", "control-plane=384")
UNIT = "[Service]\nExecStart=/bin/sleep {}\n"


def write(work: Path, **files: str) -> None:
    for name, text in files.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def run(xk8s: Xk8s, *argv: str, code: int = 0) -> str:
    return xk8s(*NAME, "exec", "vm-001", "--", *argv, code=code)


def apply(xk8s: Xk8s, *words: str) -> dict[str, Any]:
    """What was done to the one node."""
    done = xk8s.json(*NAME, "apply", *words, "--json", timeout=600)
    assert done["phase"] == "running"
    (node,) = done["nodes"]
    return dict(node)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("work")
    write(directory, **{"etc/mine": "1\n"})
    (directory / "etc/link").symlink_to("mine")
    return directory


@pytest.fixture(scope="module")
def cluster(xk8s: Xk8s, work: Path) -> Iterator[Xk8s]:
    xk8s("artifacts", "debian", "--fetch", timeout=1800)
    xk8s(*NAME, "up", "debian", str(work), *SMALL, timeout=900)
    yield xk8s
    xk8s(*NAME, "down")


def test_nothing_is_done_where_nothing_changed(cluster: Xk8s) -> None:
    before = cluster.json(*NAME, "status", "--json")
    done = apply(cluster)
    assert (done["files"], done["restarted"], done["layers"]) == ([], [], [])
    assert cluster.json(*NAME, "status", "--json")["nodes"][0]["pid"] == before["nodes"][0]["pid"]


def test_files_units_and_kernel_settings_follow(cluster: Xk8s, work: Path) -> None:
    wants = work / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "mine.service").symlink_to("../mine.service")
    write(
        work,
        **{
            "etc/mine": "2\n",
            "etc/new/deep": "x\n",
            "etc/sysctl.d/70-mine.conf": "kernel.sysrq = 17\n",
            "etc/systemd/system/mine.service": UNIT.format(1000),
            "etc/systemd/network/20-eth1.network.d/mine.conf": (
                "[Route]\nDestination=10.9.0.0/16\nGateway=192.168.1.77\n"
            ),
            "etc/hosts": "127.0.0.1 localhost mine\n",
        },
    )
    would = cluster.json(*NAME, "apply", "--dry-run", "--json")
    assert "/etc/mine" in would["nodes"][0]["files"]
    assert would["nodes"][0]["restarted"] == ["mine.service"]
    assert "/etc/mine" in cluster(*NAME, "apply", "--dry-run")
    assert run(cluster, "cat", "/etc/mine") != "2\n"
    done = apply(cluster)
    assert done["restarted"] == ["mine.service"]
    assert run(cluster, "cat", "/etc/mine", "/etc/link", "/etc/new/deep") == "2\n2\nx\n"
    assert run(cluster, "cat", "/proc/sys/kernel/sysrq") == "17\n"
    assert "sleep 1000" in run(cluster, "pgrep", "-af", "sleep")
    assert run(cluster, "cat", "/etc/hosts") == "127.0.0.1 localhost mine\n"
    deadline = time.monotonic() + 30
    while "10.9.0.0/16" not in run(cluster, "ip", "route"):
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_what_is_taken_away_shows_what_lay_below(cluster: Xk8s, work: Path) -> None:
    write(work, **{"etc/systemd/system/mine.service": UNIT.format(2000)})
    apply(cluster)
    assert "sleep 2000" in run(cluster, "pgrep", "-af", "sleep")
    (work / "etc/systemd/system/multi-user.target.wants/mine.service").unlink()
    (work / "etc/systemd/system/mine.service").unlink()
    (work / "etc/hosts").unlink()
    (work / "etc/new/deep").unlink()
    (work / "etc/new").rmdir()
    done = apply(cluster)
    assert done["stopped"] == ["mine.service"]
    run(cluster, "pgrep", "-f", "sleep 2000", code=1)
    run(cluster, "test", "-e", "/etc/new", code=1)
    assert "vm-001" in run(cluster, "cat", "/etc/hosts")


def test_much_comes_on_a_disk_that_goes_again(cluster: Xk8s, work: Path) -> None:
    disks = run(cluster, "ls", "/sys/block")
    data = os.urandom(3 << 20)
    (work / "usr/bin").mkdir(parents=True)
    (work / "usr/bin/big").write_bytes(data)
    assert apply(cluster)["size"] == 3 << 20
    digest = hashlib.sha256(data).hexdigest()
    assert run(cluster, "sha256sum", "/usr/bin/big").split()[0] == digest
    assert run(cluster, "ls", "/sys/block") == disks
    assert not list(cluster.root.glob("s/clusters/apply/.apply-*"))


def test_what_takes_a_boot_is_refused_and_nothing_changes(cluster: Xk8s, work: Path) -> None:
    write(work, **{"etc/mine": "not now\n"})
    said = cluster(*NAME, "apply", "-s", "cluster.memory=vm-001=500", code=4)
    assert "vm-001 has 500 MiB of memory" in said
    assert run(cluster, "cat", "/etc/mine") == "2\n"
    assert cluster.json(*NAME, "status", "--json")["phase"] == "running"


def test_a_killed_apply_is_mended_by_the_next(cluster: Xk8s, work: Path) -> None:
    write(work, **{"etc/mine": "3\n", "etc/dir/x": "x"})
    state = cluster.root / "s/clusters/apply"
    # As far as it got: written down, and a part of the files there.
    child = cluster.start(*NAME, "apply", "--json")
    deadline = time.monotonic() + 60
    while json.loads((state / "record.json").read_text())["phase"] != "failed":
        assert child.poll() is None or time.monotonic() < deadline
        time.sleep(0.001)
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    assert cluster.json(*NAME, "status", "--json")["phase"] == "failed"
    run(cluster, "sh", "-c", "echo torn >/etc/mine; mkdir -p /etc/dir")
    done = apply(cluster)
    assert "/etc/mine" in done["files"]
    assert run(cluster, "cat", "/etc/mine", "/etc/dir/x") == "3\nx"
    assert apply(cluster)["files"] == []


def test_a_changed_cluster_is_saved_and_brought_back(cluster: Xk8s, work: Path) -> None:
    cluster(*NAME, "snapshot", "save", "mine")
    write(work, **{"etc/mine": "4\n"})
    apply(cluster)
    assert run(cluster, "cat", "/etc/mine") == "4\n"
    cluster(*NAME, "reset")
    assert run(cluster, "cat", "/etc/mine") == "3\n"
    assert "/etc/mine" in apply(cluster)["files"]
    assert run(cluster, "cat", "/etc/mine") == "4\n"
    cluster(*NAME, "down")
    found = cluster.json("layers", "prune", "--dry-run", "--json")
    own = [layer for layer in found["needed"] if layer["name"] == f"local-{work.name}"]
    assert own, "the snapshot needs the layer that it was changed to"
    cluster(*NAME, "snapshot", "restore", "mine")
    assert run(cluster, "cat", "/etc/mine") == "3\n"
    cluster(*NAME, "snapshot", "remove", "mine")


def test_up_changes_the_nearest_snapshot(cluster: Xk8s, work: Path) -> None:
    cluster(*NAME, "down")
    write(work, **{"etc/mine": "5\n"})
    up = cluster.start(*NAME, "up", "debian", str(work), *SMALL)
    _, told = up.communicate(timeout=900)
    assert up.returncode == 0, told
    assert f"changing: local-{work.name}" in told
    assert "boot: done" not in told
    assert run(cluster, "cat", "/etc/mine") == "5\n"
    cluster(*NAME, "down")
    up = cluster.start(*NAME, "up", "debian", str(work), *SMALL)
    _, told = up.communicate(timeout=900)
    assert "changing:" not in told
    assert "restore: done" in told, told
    assert run(cluster, "cat", "/etc/mine") == "5\n"


def test_a_save_is_enough_for_watch(cluster: Xk8s, work: Path) -> None:
    watch = cluster.start(*NAME, "watch", str(work), env={"PYTHONUNBUFFERED": "1"})
    try:
        assert watch.stdout is not None
        assert "nothing to do" in watch.stdout.readline()
        assert "watching" in watch.stdout.readline()
        write(work, **{"etc/mine": "6\n"})
        line = watch.stdout.readline()
        assert "mine: Ready: 1 files in vm-001" in line
        assert run(cluster, "cat", "/etc/mine") == "6\n"
        (work / "etc/link").unlink()
        (work / "etc/link").mkdir()
        (work / "etc/link/x").write_text("in place of a link\n")
        assert "Ready" in watch.stdout.readline()
        (work / "lib").mkdir()
        (work / "lib/x").touch()
        assert "failed, exit code 2" in watch.stdout.readline()
        (work / "lib/x").unlink()
        (work / "lib").rmdir()
        assert "nothing to do" in watch.stdout.readline()
        watch.send_signal(signal.SIGINT)
        watch.communicate(timeout=30)
        assert watch.returncode == 0
    finally:
        watch.kill()
        watch.wait()
    assert run(cluster, "cat", "/etc/link/x") == "in place of a link\n"
