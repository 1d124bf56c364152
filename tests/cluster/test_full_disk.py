"""A disk that fills up while a cluster is saved, or while a node writes to its volume."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from xk8s.cluster.change.lifecycle import resume
from xk8s.cluster.down import down
from xk8s.cluster.handle import open_cluster
from xk8s.cluster.snapshots.store import list_snapshots
from xk8s.cluster.up import snapshot, up
from xk8s.context import ExecResult
from xk8s.errors import AbsentError, HostError
from xk8s.machine.qemu.agent import Agent
from xk8s.names.request import Request
from xk8s.planning.make_plan import make_plan
from xk8s.planning.plan import Plan
from xk8s.progress import Silent

from tests.cluster.reboot import until
from tests.mounts import tmpfs

pytestmark = pytest.mark.cluster

NAME = "fulldisk"


class Filling(Silent):
    """Lets something happen when the memory is copied, and keeps the notes."""

    def __init__(self, happen: Callable[[], None]) -> None:
        self.happen = happen
        self.notes: list[str] = []

    def item(self, key: str, text: str, *, done: int = 0, total: int = 0) -> None:
        if text.startswith("copying the memory"):
            self.happen()

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where clusters and snapshots are."""
    with (
        tmpfs(tmp_path / "disk", "3g") as disk,
        tempfile.TemporaryDirectory(prefix="xk8s-") as runtime,
    ):
        monkeypatch.setenv("XK8S_STATE", str(disk / "state"))
        monkeypatch.setenv("XK8S_RUNTIME", f"{runtime}/r")
        yield disk
        make_writable(disk)
        down(NAME, Silent())


def fill(disk: Path) -> None:
    """Leave no room."""
    with (disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 20))
    with (disk / "rest").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 512)
    assert shutil.disk_usage(disk).free == 0


def make_writable(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    for name in ("filler", "rest"):
        (disk / name).unlink(missing_ok=True)


def one_node(overlay: str) -> Plan:
    return make_plan(
        Request(
            overlays=(overlay,),
            name=NAME,
            environment={},
            sets=("cluster.nodes=1", "cluster.routers=0"),
        )
    )


def test_a_ready_cluster_stays_up_and_says_that_it_has_no_snapshot(disk: Path) -> None:
    plan = one_node("debian")
    progress = Filling(lambda: fill(disk))

    def make_room_again(text: str) -> None:
        progress.notes.append(text)
        if "no snapshot" in text:
            make_writable(disk)

    progress.note = make_room_again  # type: ignore[method-assign]
    cluster = up(plan, progress)
    (note,) = [text for text in progress.notes if "no snapshot" in text]
    assert "the cluster keeps running without one" in note
    assert str(disk) in note
    assert list_snapshots() == ()
    assert cluster.record.phase == "running"

    def runs() -> str:
        now = open_cluster(NAME)  # a save lets new processes run its VMs
        done = Agent(now.sockets("vm-001").agent, "vm-001").exec(["hostname"])
        return done.stdout.decode().strip()

    assert runs() == "vm-001"
    with pytest.raises(HostError, match="the cluster keeps running without one") as caught:
        snapshot(NAME, "mine", Filling(lambda: fill(disk)))
    assert str(disk) in caught.value.where
    make_writable(disk)
    assert runs() == "vm-001"
    assert list_snapshots() == ()
    snapshot(NAME, "mine", Silent())
    assert [saved.label for saved in list_snapshots()] == ["mine"]


def test_a_node_whose_volume_has_no_room_waits_for_it_and_loses_nothing(disk: Path) -> None:
    up(one_node("etcd"), Silent())

    def run(script: str) -> ExecResult:
        return open_cluster(NAME).agent("vm-001").exec(["bash", "-lc", script])

    def guest(script: str) -> str:
        done = run(script)
        assert done.exit_code == 0, done.stderr
        return done.stdout.decode().strip()

    def state() -> str:
        (node,) = open_cluster(NAME).status()["nodes"]
        return str(node["state"])

    until(lambda: run("etcdctl endpoint health").exit_code == 0)  # it has no check of its own
    guest("etcdctl put small before")
    fill(disk)
    put = "head -c 1000000 /dev/zero | tr '\\0' x | etcdctl --command-timeout=300s put large"
    guest(f"(sleep 1; {put}) >/dev/null 2>&1 &")
    until(lambda: state() == "out of disk space")
    with pytest.raises(AbsentError, match="vm-001 is out of disk space: free some space where"):
        guest("true")
    with suppress(AbsentError):  # it may be paused again before it has the right time
        resume(NAME, ["vm-001"], Silent())
    until(lambda: state() == "out of disk space")  # there is none yet
    make_writable(disk)
    resume(NAME, ["vm-001"], Silent())
    assert state() == "running"
    until(lambda: guest("etcdctl get --print-value-only large | wc -c") == "1000001")
    assert guest("etcdctl get --print-value-only small") == "before"
