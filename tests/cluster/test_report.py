"""Reports and known faults of real VMs of the plain base system: whole, full, dead, never up."""

from __future__ import annotations

import os
import signal
import tarfile
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from xk8s import hookimpl
from xk8s.cluster.state import failed_start
from xk8s.cluster.up import up
from xk8s.context import Context
from xk8s.errors import MachineError, PlanError
from xk8s.names.registry import Registry
from xk8s.names.request import Request
from xk8s.overlay import BootOptions, GuestNeeds, Node, Overlay
from xk8s.planning.make_plan import make_plan
from xk8s.planning.plan import Plan
from xk8s.progress import Silent

from tests.cluster.test_broken_starts import SMALL, wait_for
from tests.conftest import Xk8s

pytestmark = pytest.mark.cluster

NAME = "rep"


def content(path: Path) -> dict[str, str]:
    """The files of an archive, by their names below its one directory."""
    with tarfile.open(path) as archive:
        members = [member for member in archive.getmembers() if member.isfile()]
        tops = {member.name.split("/")[0] for member in members}
        assert tops == {f"xk8s-report-{path.stem.split('.')[0]}"}
        found = {}
        for member in members:
            file = archive.extractfile(member)
            assert file is not None
            found[member.name.partition("/")[2]] = file.read().decode()
    return found


@pytest.fixture(scope="module")
def cluster(xk8s: Xk8s) -> Iterator[Xk8s]:
    try:
        xk8s("--name", NAME, "up", "debian", *SMALL, timeout=1800)
        yield xk8s
    finally:
        xk8s("--name", NAME, "down")
        assert xk8s.left() == []


def left(xk8s: Xk8s, name: str) -> list[str]:
    """What a cluster left that is down; that of this module runs beside it."""
    return [process for process in xk8s.left() if f"/{name}" in process or f" {name}" in process]


def guest(cluster: Xk8s, script: str) -> str:
    return cluster("--name", NAME, "exec", "vm-001", "--", "sh", "-c", script)


def faults(cluster: Xk8s) -> set[str]:
    found = cluster.json("--name", NAME, "check", "--faults", "--json")
    assert found["missing"] == []
    return {fault["fault"] for fault in found["faults"]}


def test_a_good_start_shows_no_fault(cluster: Xk8s) -> None:
    assert faults(cluster) == set()


def test_a_report_of_a_cluster_that_works(cluster: Xk8s, tmp_path: Path) -> None:
    path = tmp_path / f"{NAME}.tar.gz"
    told = cluster.json("--name", NAME, "report", "-o", str(path), "--json")
    assert path.stat().st_mode & 0o777 == 0o600
    files = content(path)
    assert sorted(files) == sorted(told["files"])
    assert told["missing"] == []
    assert "qemu" in files["host/versions.json"]
    assert "192.168.1.1/24" in files["nodes/vm-001/network/addresses.txt"]
    assert "net1" in files["network/addresses.txt"]
    assert "systemd[1]" in files["nodes/vm-001/journal.txt"]
    assert "debian" in files["cluster/plan.json"]
    assert "None was recognised." in files["REPORT.md"]
    assert "Nothing: it is complete." in files["REPORT.md"]


def test_faults_that_happen_are_recognised(cluster: Xk8s) -> None:
    guest(cluster, "modprobe no_such_module || echo no_such_module >/etc/modules-load.d/x.conf;"
                   "systemctl restart systemd-modules-load || true")  # fmt: skip
    assert "module-missing" in faults(cluster)
    guest(
        cluster,
        "mkdir /small && mount -t tmpfs -o size=64k small /small;"
        "dd if=/dev/zero of=/small/x bs=64k count=2 2>&1 | logger -t filler; umount /small",
    )
    assert "guest-disk-full" in faults(cluster)


def test_logs_of_units_files_and_consoles(cluster: Xk8s) -> None:
    assert "dd: error writing" in cluster("--name", NAME, "logs", "-g", "no space left")
    assert "No space left" in cluster("--name", NAME, "logs", "--since", "10m", "-n", "2000")
    assert "eth1" in cluster("--name", NAME, "logs", "systemd-networkd")
    # Known by its short name; it starts before the journal, which may have nothing of it.
    cluster("--name", NAME, "logs", "guest-agent")
    assert "vm-001" in cluster("--name", NAME, "logs", "/etc/hostname")
    assert cluster("--name", NAME, "logs", "console", "-n", "3")
    assert "is not a time" in cluster("--name", NAME, "logs", "--since", "nonsense", code=2)


def test_a_dead_vm_leaves_its_console_to_the_report(cluster: Xk8s, tmp_path: Path) -> None:
    # Sysrq "c" is a real panic: the kernel writes it to the console, and boots again.
    cluster("--name", NAME, "exec", "vm-001", "--", "sh", "-c",
            "(sleep 1; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 &")  # fmt: skip
    assert cluster.root is not None
    console = cluster.root / "s" / "clusters" / NAME / "console" / "vm-001.log"
    wait_for(lambda: b"sysrq triggered crash" in console.read_bytes(), 60)
    cluster("--name", NAME, "node", "kill", "vm-001")
    error = cluster("--name", NAME, "exec", "vm-001", "--", "true", code=8)
    assert "hint: the guest's kernel panicked: sysrq triggered crash" in error
    path = tmp_path / f"{NAME}.tar.gz"
    told = cluster.json("--name", NAME, "report", "-o", str(path), "--json")
    assert [fault["fault"] for fault in told["faults"]][:1] == ["kernel-panic"]
    assert any("vm-001 is dead" in line for line in told["missing"])
    files = content(path)
    assert "sysrq triggered crash" in files["nodes/vm-001/console.log"]
    assert "the VM does not exist" in files["REPORT.md"]
    assert "nodes/vm-001/journal.txt" not in files
    assert "kernel-panic" in str(cluster.json("--name", NAME, "check", "--faults", "--json"))


def plan_with(name: str, **hooks: object) -> Plan:
    """The small cluster and an overlay of these hooks."""
    plugin = types.SimpleNamespace(
        xk8s_overlay=hookimpl(lambda: Overlay(summary="t", requires=("base",))), **hooks
    )
    request = Request(
        overlays=("debian", "t-one"), name=name,
        sets=("cluster.nodes=1", "cluster.routers=0", "cluster.memory=control-plane=384",
              "cluster.snapshot=false"),
    )  # fmt: skip
    return make_plan(request, Registry({"t-one": plugin}))


def test_a_program_that_an_overlay_needs_and_the_base_lacks(
    xk8s: Xk8s, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in xk8s.environment.items():
        monkeypatch.setenv(key, value)

    def needs(ctx: Context) -> GuestNeeds:
        return GuestNeeds(programs=("mount", "no-such-program"), files=("/etc/resolv.conf",))

    plan = plan_with("lacks", xk8s_guest=hookimpl(needs))
    with pytest.raises(PlanError, match=r"^overlay 't-one' needs program no-such-program$") as at:
        up(plan, Silent())
    assert "vm-001" in at.value.where
    assert left(xk8s, "lacks") == []


def test_what_is_left_of_an_up_whose_vm_dies(
    xk8s: Xk8s, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for key, value in xk8s.environment.items():
        monkeypatch.setenv(key, value)

    def boot(ctx: Context, node: Node) -> BootOptions:
        return BootOptions(kernel_args=("rdinit=/no/such/init",))

    with pytest.raises(MachineError, match="the VM no longer exists") as at:
        up(plan_with("panics", xk8s_boot=hookimpl(boot)), Silent())
    assert any("found no initramfs" in text for text in at.value.faults), at.value.faults
    assert "xk8s report" in at.value.hint
    assert not any("panics" in process for process in xk8s.processes())
    path = tmp_path / "panics.tar.gz"
    told = xk8s.json("--name", "panics", "report", "-o", str(path), "--json")
    assert [fault["fault"] for fault in told["faults"]] == ["no-root"]
    files = content(path)
    assert "Kernel panic" in files["nodes/vm-001/console.log"]
    assert "the VM no longer exists" in files["cluster/error.txt"]
    assert failed_start.failure_dir("panics").is_dir()
    xk8s("--name", "panics", "down")
    assert left(xk8s, "panics") == []
    error = xk8s("--name", "panics", "report", "-o", str(path) + "2", code=10)
    assert "no failed start of it" in error


def test_a_killed_vm_in_the_middle_of_a_report(xk8s: Xk8s, tmp_path: Path) -> None:
    """QEMU stopped (not dead): the agent does not answer, and the report ends all the same."""
    try:
        xk8s("--name", "stuck", "up", "debian", *SMALL, timeout=600)
        (node,) = xk8s.json("--name", "stuck", "status", "--json")["nodes"]
        os.kill(node["pid"], signal.SIGSTOP)
        path = tmp_path / "stuck.tar.gz"
        told = xk8s.json("--name", "stuck", "report", "-o", str(path), "--json", timeout=900)
        assert any("does not answer" in line for line in told["missing"])
        assert "nodes/vm-001/console.log" in content(path)
    finally:
        xk8s("--name", "stuck", "down")
    assert left(xk8s, "stuck") == []
