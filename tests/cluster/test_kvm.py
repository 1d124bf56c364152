"""xk8s under KVM, on machines that have none: QEMU without KVM emulates the virtualization of AMD's
CPUs, so a guest of ours has it. In that guest xk8s runs from its wheels, and its VMs with
``--accel kvm``.

The outer VM has one CPU: with two of them the kernel of a guest was seen to panic, by a fault of
the emulation.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xk8s.util.host_programs import PROGRAMS, packages

from tests.conftest import Xk8s
from tests.installed import Installed

pytestmark = pytest.mark.cluster

NAME = ("--name", "outer")
PYTHON = "3.13"
"""Of Debian trixie, which is what the guest has."""
PACKAGES = ",".join(sorted({*packages(PROGRAMS, "apt"), "python3"}))
SITE, CACHE = "/opt/xk8s/site", "/opt/xk8s/cache"
HOME = "/root/inner"
INNER = ("debian", "--routers", "0", "--accel", "kvm", "--memory", "320", "--cpus", "1")


def in_outer(xk8s: Xk8s, script: str, timeout: float = 900) -> str:
    """Run a line of shell in the outer VM; what it says."""
    words = ("exec", "-n", "vm-001", "--", "sh", "-c", script)
    return xk8s(*NAME, *words, timeout=timeout)


class Inner:
    """The xk8s in the outer VM."""

    def __init__(self, outer: Xk8s) -> None:
        self.outer = outer

    def __call__(self, *words: str, code: int = 0, timeout: float = 900) -> str:
        """Run it to its end; what it says on both streams."""
        command = (
            f"cd /root && PYTHONPATH={SITE} XK8S_CACHE={HOME}/cache XK8S_STATE={HOME}/state "
            f'XK8S_RUNTIME=/run/inner python3 -m xk8s.cli {shlex.join(words)} 2>&1; echo "=$?"'
        )
        said = in_outer(self.outer, command, timeout)
        text, _, ended = said.rstrip("\n").rpartition("=")
        assert int(ended) == code, said
        return text

    def json(self, *words: str) -> Any:
        """What it says as JSON."""
        return json.loads(self(*words))


def copied_artifacts(xk8s: Xk8s, target: Path) -> None:
    """What the inner ``debian`` is made of, so that nothing has to be built or fetched there."""
    xk8s("artifacts", "debian", "--fetch", timeout=1800)
    for artifact in xk8s.json("artifacts", "debian", "--json")["artifacts"]:
        source = Path(artifact["path"]).parent
        shutil.copytree(source, target / "artifacts" / source.name, symlinks=True)


@pytest.fixture(scope="module")
def inner(
    xk8s: Xk8s, installed: Installed, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Inner]:
    work = tmp_path_factory.mktemp("kvm") / "with-xk8s"
    site = work / SITE.removeprefix("/")
    installed.run(
        "pip", "install", "-q", "--target", site, "--python-version", PYTHON,
        "--only-binary", ":all:", "--find-links", "wheels", "xk8s", "xk8s-debian",
    )  # fmt: skip
    copied_artifacts(xk8s, work / CACHE.removeprefix("/"))
    xk8s(
        *NAME, "up", "debian", str(work), "--nodes", "1", "--routers", "0",
        "--cpus", "control-plane=1", "--memory", "control-plane=6144", "--no-check",
        "-s", f"debian.packages={PACKAGES}", "-s", "cluster.snapshot=false", timeout=2400,
    )  # fmt: skip
    try:
        # A machine with KVM has it as well where it allows its guests to have VMs.
        script = (
            "{ modprobe -a kvm_amd kvm_intel tun; [ -c /dev/kvm ] || exit 9; "
            f"mkdir {HOME} && cp -r {CACHE} {HOME}/cache; }} 2>/dev/null"
        )
        code = in_outer(xk8s, f"({script}); echo $?").split()[-1]
        if code == "9":
            pytest.skip("guests of this machine have no KVM (nested virtualization is off)")
        assert code == "0"
        yield Inner(xk8s)
    finally:
        xk8s(*NAME, "down")


@pytest.fixture(scope="module")
def up(inner: Inner) -> str:
    """What `up` said: two nodes, copies of one template, saved."""
    return inner("up", *INNER, "--nodes", "2", timeout=1800)


def guest(inner: Inner, node: str, script: str) -> list[str]:
    """Lines that a script says in an inner node. Each call takes many seconds: ask for much."""
    return inner("exec", "-n", node, "--", "sh", "-c", script).splitlines()


def test_kvm_is_found_and_chosen(inner: Inner) -> None:
    # It lacks a mirror and much disk, which nothing here takes.
    findings, _ = json.JSONDecoder().raw_decode(inner("doctor", "--json", code=5))
    found = {finding["name"]: finding for finding in findings}
    assert found["accel"]["level"] == "ok", found["accel"]
    assert found["accel"]["text"].startswith("kvm:")


def test_two_nodes_boot_as_copies_of_a_template_and_are_saved(inner: Inner, up: str) -> None:
    print(up)
    assert "template: done" in up
    assert "saved for the next start" in up
    clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
    for node, other in (("vm-001", "vm-002"), ("vm-002", "vm-001")):
        name, source, given, *pinged = guest(
            inner, node, f"hostname; cat {clock} /proc/cmdline; ping -c 1 -w 20 {other}"
        )
        assert name == node
        assert source == "kvm-clock"
        assert "xk8s.template" in given
        assert any("1 received" in line for line in pinged), pinged
    assert inner.json("status", "--json")["accel"] == "kvm"


def test_a_file_is_applied(inner: Inner, up: str) -> None:
    guest_file = "/etc/motd"
    script = f"mkdir -p {HOME}/dir/etc && echo applied >{HOME}/dir{guest_file}"
    in_outer(inner.outer, script)
    inner("apply", f"{HOME}/dir")
    for node in ("vm-001", "vm-002"):
        assert guest(inner, node, f"cat {guest_file}") == ["applied"]


def test_what_was_saved_comes_back(inner: Inner, up: str) -> None:
    guest(inner, "vm-002", "touch /root/before")
    inner("snapshot", "save", "x")
    guest(inner, "vm-002", "touch /root/after")
    for verb in (("reset",), ("snapshot", "restore", "x")):
        inner(*verb)
        *names, seconds = guest(inner, "vm-002", "ls /root; touch /root/after; date +%s")
        assert names == ["before"]
        assert abs(int(seconds) - int(in_outer(inner.outer, "date +%s"))) < 60


def test_a_node_joins_and_leaves(inner: Inner, up: str) -> None:
    inner("scale", "--nodes", "3")
    assert guest(inner, "vm-003", "hostname") == ["vm-003"]
    inner("scale", "--nodes", "2")
    names = [node["name"] for node in inner.json("status", "--json")["nodes"]]
    assert names == ["vm-001", "vm-002"]


def test_it_goes_down_and_the_next_start_restores(inner: Inner, up: str) -> None:
    inner("down")
    said = inner("up", *INNER, "--nodes", "2")
    assert "restore: done" in said
    assert guest(inner, "vm-002", "hostname") == ["vm-002"]
    inner("down")
    left = in_outer(inner.outer, "pgrep -c qemu-system; ls /dev/shm /run/inner")
    assert left.split()[0] == "0"
