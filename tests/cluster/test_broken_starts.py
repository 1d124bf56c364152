"""Bad input, Ctrl-C, SIGKILL and dead VMs: a clear error, and nothing is left behind.

Real VMs of the plain base system: one node, no Kubernetes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import Xk8s

pytestmark = pytest.mark.cluster

SMALL = ("--nodes", "1", "--routers", "0", "--memory", "control-plane=384")


def wait_for(condition: object, seconds: float = 300) -> None:
    """Until ``condition()`` holds."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.1)


def interrupted(xk8s: Xk8s, name: str, number: int) -> tuple[int, str]:
    """An `up` that gets a signal once its VM runs; its exit code and stderr."""
    up = xk8s.start("--name", name, "up", "debian", *SMALL)
    try:
        wait_for(lambda: up.poll() is not None or any("qemu" in p for p in xk8s.processes()))
        assert up.poll() is None, up.communicate()
        os.kill(up.pid, number)
        _, err = up.communicate(timeout=60)
    finally:
        up.kill()
        up.wait()
    return up.returncode, err


def test_base_boots_and_is_reached_with_every_network_broken(xk8s: Xk8s) -> None:
    xk8s("--name", "plain", "up", "debian", *SMALL, timeout=1800)
    status = xk8s.json("--name", "plain", "status", "--json")
    assert status["phase"] == "running"
    assert xk8s("--name", "plain", "exec", "vm-001", "--", "cat", "/etc/hostname") == "vm-001\n"
    xk8s("--name", "plain", "exec", "vm-001", "--", "ip", "link", "set", "eth0", "down")
    xk8s("--name", "plain", "exec", "vm-001", "--", "ip", "link", "set", "eth1", "down")
    assert "eth1" in xk8s("--name", "plain", "exec", "vm-001", "--", "ip", "-br", "link")
    # Exit code and standard input pass through.
    xk8s("--name", "plain", "exec", "vm-001", "--", "false", code=1)
    assert xk8s("--name", "plain", "exec", "vm-001", "--", "tr", "a", "b", stdin="aaa") == "bbb"


def test_layers_take_no_memory_of_the_guest(xk8s: Xk8s) -> None:
    """Their files are mapped where the host has them, not read into the guest's page cache."""
    script = (
        "grep ^Cached: /proc/meminfo; cat /usr/lib/x86_64-linux-gnu/*.so* /usr/bin/* | wc -c;"
        "grep ^Cached: /proc/meminfo; grep -c 'erofs.*dax=always' /proc/mounts"
    )
    told = xk8s("--name", "plain", "exec", "vm-001", "--", "sh", "-c", script).splitlines()
    before, after = (int(told[at].split()[1]) << 10 for at in (0, 2))
    assert int(told[1]) > 40 << 20
    assert after - before < 4 << 20
    assert int(told[3]) >= 3


def test_up_of_a_running_cluster_is_refused_and_leaves_it_alone(xk8s: Xk8s) -> None:
    error = xk8s("--name", "plain", "up", "debian", *SMALL, code=10)
    assert "is already up" in error
    assert xk8s("--name", "plain", "exec", "vm-001", "--", "hostname") == "vm-001\n"


def test_two_clusters_do_not_collide(xk8s: Xk8s) -> None:
    xk8s("--name", "other", "up", "debian", *SMALL, timeout=600)
    names = [cluster["name"] for cluster in xk8s.json("status", "--json", "--all")]
    assert names == ["other", "plain"]
    xk8s("--name", "other", "down")
    assert xk8s("--name", "plain", "exec", "vm-001", "--", "hostname") == "vm-001\n"


def test_a_dead_vm_is_named_with_its_console(xk8s: Xk8s) -> None:
    (node,) = xk8s.json("--name", "plain", "status", "--json")["nodes"]
    os.kill(node["pid"], signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{node['pid']}/exe").exists(), 10)
    error = xk8s("--name", "plain", "exec", "vm-001", "--", "true", code=8)
    assert "vm-001 is dead: xk8s node start vm-001 --name plain" in error
    xk8s("--name", "plain", "down")
    assert xk8s.left() == []


def test_ctrl_c_sweeps_everything(xk8s: Xk8s) -> None:
    code, error = interrupted(xk8s, "ctrlc", signal.SIGINT)
    assert code == 130, error
    assert "Traceback" not in error
    assert xk8s.left() == []


def test_sigterm_sweeps_everything(xk8s: Xk8s) -> None:
    code, error = interrupted(xk8s, "term", signal.SIGTERM)
    assert code == 130, error
    assert xk8s.left() == []


def test_down_sweeps_after_sigkill(xk8s: Xk8s) -> None:
    code, _ = interrupted(xk8s, "killed", signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert xk8s.processes(), "a killed process cannot clean up; then this test proves nothing"
    xk8s("--name", "killed", "down")
    assert xk8s.left() == []


def test_next_up_sweeps_after_sigkill(xk8s: Xk8s) -> None:
    interrupted(xk8s, "again", signal.SIGKILL)
    before = len(xk8s.processes())
    xk8s("--name", "again", "up", "debian", *SMALL, timeout=600)
    assert len(xk8s.processes()) == before
    xk8s("--name", "again", "down")
    assert xk8s.left() == []


def test_a_missing_program_is_named(xk8s: Xk8s, tmp_path: Path) -> None:
    program = "qemu-system-x86_64"
    for directory in os.environ["PATH"].split(":"):
        if Path(directory).is_dir():
            for path in Path(directory).iterdir():
                target = tmp_path / path.name
                if path.name != program and not target.is_symlink():
                    target.symlink_to(path)
    error = xk8s("--name", "poor", "up", "debian", *SMALL, code=5, env={"PATH": str(tmp_path)})
    assert program in error
    assert "apt" in error
    assert xk8s.left() == []


def test_a_full_disk_is_named_and_leaves_nothing(xk8s: Xk8s, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(cache)], check=False
    )
    if mounted.returncode:
        pytest.skip("only root can make a small disk to fill")
    try:
        up = xk8s.start("--name", "full", "up", "debian", *SMALL, env={"XK8S_CACHE": str(cache)})
        _, error = up.communicate(timeout=900)
        assert up.returncode == 5, error
        assert "the disk is full" in error
        assert str(cache) in error
        assert xk8s.left() == []
        partial = list(cache.rglob("*.erofs"))
        assert partial == []
    finally:
        subprocess.run(["umount", str(cache)], check=True)


def test_a_guest_whose_cpu_lost_its_timer_is_reset_once(xk8s: Xk8s, tmp_path: Path) -> None:
    """It says so on its console, here because a unit does."""
    work = tmp_path / "stalls"
    unit = work / "etc/systemd/system/stalls.service"
    unit.parent.mkdir(parents=True)
    unit.write_text(
        "[Unit]\nDefaultDependencies=no\nBefore=qemu-guest-agent.service sysinit.target\n"
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nStandardInput=data\n"
        "StandardInputText=rcu_preempt kthread timer wakeup didn't happen\n"
        "ExecStart=sh -c 'cat >/dev/console; sleep 3'\n"
    )
    wants = unit.parent / "sysinit.target.wants"
    wants.mkdir()
    (wants / unit.name).symlink_to(f"../{unit.name}")
    try:
        words = ("--name", "stalls", "up", "debian", str(work), "--nodes", "1", "--routers", "0")
        process = xk8s.start(*words, "--cold")
        _, said = process.communicate(timeout=900)
        assert process.returncode == 0, said
        assert said.count("a CPU of the guest lost its timer") == 1
        console = (xk8s.root / "s/clusters/stalls/console/vm-001.log").read_text(errors="replace")
        assert console.count("kthread timer wakeup") == 2, "it booted twice"
    finally:
        xk8s("--name", "stalls", "down")
