"""A disk that is full or fails, at each stage: an error with the path, and no cluster is lost."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from xk8s.build.artifacts.store import Store
from xk8s.build.layers.build import LayerStore
from xk8s.cli.app import run
from xk8s.cli.errors import understand
from xk8s.cluster import up
from xk8s.cluster.handle import Cluster
from xk8s.cluster.prepare import Clock
from xk8s.cluster.snapshots import save, store
from xk8s.cluster.snapshots.restore import staged
from xk8s.cluster.state import failed_start
from xk8s.cluster.state.booted import BOOT
from xk8s.cluster.state.guest_files import GUEST_FILES
from xk8s.cluster.state.node_paths import ram_path
from xk8s.cluster.state.passed_checks import remember_passed
from xk8s.cluster.state.record import NodeRecord, Record, read_record, write_record
from xk8s.cluster.state.request_file import PLAN, REQUEST
from xk8s.errors import HostError, MachineError, Xk8sError
from xk8s.overlay import File, Layer
from xk8s.planning.plan import Plan
from xk8s.progress import Silent
from xk8s.recipe import RecipeContext
from xk8s.sources import Artifact, Recipe
from xk8s.util.disk_full import DiskError, DiskFull, disk_error
from xk8s.util.paths import make_private, runtime_dir, state_dir

from tests.mounts import failing_ext4, tmpfs
from tests.notes import Notes

DATA = os.urandom(8 << 20)


@contextmanager
def full(directory: Path) -> Iterator[Path]:
    with tmpfs(directory / "full", "4m") as disk:
        yield disk


@contextmanager
def read_only(directory: Path) -> Iterator[Path]:
    with tmpfs(directory / "read-only", "4m") as disk:
        for name in ("artifacts", "layers", "locks"):
            (disk / name).mkdir()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        yield disk


@contextmanager
def limited(directory: Path) -> Iterator[Path]:
    """A limit for the size of files: what one user may have, or an old file system."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, before[1]))
    try:
        yield directory
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


DISKS = [full, read_only, failing_ext4, limited]
Disk = Callable[[Path], Any]


def cook(recipe: RecipeContext) -> None:
    (recipe.out / "out").write_bytes(DATA * int(recipe.params["times"]))


@pytest.fixture(autouse=True)
def own(own_places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kitchen_of_disks", sys.modules[__name__])


# --- artifacts and layers ---------------------------------------------------------------------


@pytest.mark.parametrize("disk", DISKS)
def test_an_artifact_that_the_disk_does_not_take_is_an_error_with_its_path(
    tmp_path: Path, disk: Disk
) -> None:
    source = Recipe(function="kitchen_of_disks:cook", params={"times": "2"})
    other = Recipe(function="kitchen_of_disks:cook", params={"times": "3"})
    artifact = Artifact(name="big", version="1", members=("out",), sources=(source, other))
    with disk(tmp_path) as place:
        with pytest.raises(DiskError) as caught:
            Store(place).get(artifact, Silent())
        assert caught.value.exit_code == HostError.exit_code == 5
        assert str(place) in caught.value.where
        assert Store(place).cached(artifact) is None


@pytest.mark.parametrize("disk", [full, failing_ext4, limited])
def test_a_layer_that_the_disk_does_not_take_is_an_error_with_its_path(
    tmp_path: Path, disk: Disk
) -> None:
    layer = Layer(name="big", entries=(File(path="/big", data=DATA * 2),))
    with disk(tmp_path) as place:
        with pytest.raises(DiskError) as caught:
            LayerStore(place).build(layer, {})
        assert str(place) in caught.value.where
        assert not list((place / "layers").glob("[!.]*.erofs"))


# --- what the disk says -----------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_list_of_errors_is_the_disks_if_one_of_them_is(number: int, tmp_path: Path) -> None:
    """shutil.copytree goes on, and its error has no errno."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "one").touch()

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number), "one")

    with pytest.raises(shutil.Error) as caught:
        shutil.copytree(source, tmp_path / "target", copy_function=refuse)
    known = disk_error(caught.value, tmp_path)
    assert known is not None
    assert isinstance(known, DiskFull) is (number in (errno.ENOSPC, errno.EDQUOT))
    assert str(tmp_path) in known.where
    assert understand(caught.value) is not None
    assert understand(caught.value).exit_code == 5  # type: ignore[union-attr]


def test_what_is_no_fault_of_the_disk_stays_what_it_is() -> None:
    for error in (OSError(errno.ENOENT, "x"), OSError("x"), shutil.Error([("a", "b", "same")])):
        assert disk_error(error, Path("/")) is None
        assert understand(error) is None


# --- saving -----------------------------------------------------------------------------------


class Filling(Notes):
    """Lets something happen to the disk at a stage of a save."""

    def __init__(self, stage: str, happen: Callable[[], None]) -> None:
        super().__init__()
        self.at, self.happen = stage, happen

    def item(self, key: str, text: str, *, done: int = 0, total: int = 0) -> None:
        if self.at in text:
            self.happen()


def ready_cluster(plan: Plan) -> Cluster:
    """The state of a Ready cluster whose memory is in files; nothing runs."""
    state = state_dir(plan.name)
    make_private(runtime_dir(plan.name))
    for name in ("nodes", "pki"):
        (state / name).mkdir(parents=True)
        (state / name / "file").write_bytes(b"x" * 5000)
    for name in (REQUEST, PLAN, BOOT, GUEST_FILES):
        (state / name).write_text("{}")
    node = NodeRecord(name="vm-001", role="worker", pid=2**22 + 1, started=1)
    record = Record(
        name=plan.name, phase="starting", overlays=(), digest="d", accel="tcg", memory="shared",
        nodes=(node,),
    )  # fmt: skip
    write_record(record)
    ram = ram_path(plan.name, "vm-001")
    ram.parent.mkdir(parents=True, exist_ok=True)
    ram.write_bytes(DATA)
    return Cluster(record, plan)


@pytest.fixture
def vms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Everything that speaks to QEMU."""
    monkeypatch.setenv("XK8S_MEMORY", str(tmp_path / "memory"))

    def hand_over(cluster: Cluster, _boot: object, work: Path) -> tuple[Cluster, float]:
        (work / "vm-001.state").write_bytes(b"devices")
        record = attrs.evolve(cluster.record, memory="private", generation=1)
        write_record(record)
        return cluster.as_of(record), 0.1

    accel = SimpleNamespace(name="tcg")
    boot = SimpleNamespace(nodes=(SimpleNamespace(node=SimpleNamespace(name="vm-001")),),
                           accel=accel, layers={})  # fmt: skip
    monkeypatch.setattr(save, "hand_over", hand_over)
    monkeypatch.setattr(save, "unsavable", lambda _: None)
    monkeypatch.setattr(save, "_set_clock", lambda *_: None)
    monkeypatch.setattr(save, "machine_key", lambda _: "machine")
    for name, value in (
        ("unsavable", lambda _: None),
        ("read_boot", lambda _: boot),
        ("read_guest_files", lambda _: SimpleNamespace(key="a" * 64, layers={})),
        ("write_host_files", lambda _: None),
        ("check", lambda *_, **__: None),
    ):
        monkeypatch.setattr(up, name, value)


def fill(disk: Path) -> None:
    """Leave no room."""
    with (disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    assert shutil.disk_usage(disk).free == 0


def close(disk: Path) -> None:
    """What the kernel does after an error of the disk."""
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)


@pytest.mark.usefixtures("vms")
@pytest.mark.parametrize("happen", [fill, close])
@pytest.mark.parametrize("stage", ["copying the memory", "files of the state"])
def test_a_ready_cluster_outlives_a_disk_that_is_full_or_fails_while_it_is_saved_mocked(
    tmp_path: Path, happen: Callable[[Path], None], stage: str, monkeypatch: pytest.MonkeyPatch,
    plan_of: Callable[..., Plan],
) -> None:  # fmt: skip
    """Once copytree's error swept the cluster away, after all checks had passed."""
    plan = plan_of("demo")
    with tmpfs(tmp_path / "disk", "40m") as disk:
        monkeypatch.setattr("xk8s.cluster.up.check_running", lambda _: None)  # its VMs are mocked
        monkeypatch.setattr(store, "snapshots_dir", lambda cluster: disk / "snapshots" / cluster)
        (disk / "snapshots").mkdir()
        monkeypatch.setattr(save, "_STATES", 4096)
        progress = Filling(stage, lambda: happen(disk))
        real = save.copy_directory

        def copy_directory(source: Path, target: Path) -> None:
            progress.item("", "copying the files of the state")
            real(source, target)

        monkeypatch.setattr(save, "copy_directory", copy_directory)
        cluster = ready_cluster(plan)
        inputs = SimpleNamespace(plan=plan)
        saved = up._saved(cluster, inputs, Clock(progress))  # type: ignore[arg-type]
        assert saved.record == read_record("demo")
        assert saved.record.generation == 1, "the processes that run now"
        assert state_dir("demo").exists()
        (note,) = [text for text in progress.notes if "no snapshot" in text]
        assert "the cluster keeps running without one" in note
        assert str(disk) in note
        assert store.list_snapshots(disk / "snapshots") == ()


@pytest.mark.usefixtures("vms")
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")]),
        PermissionError(errno.EACCES, "Permission denied", "/x"),
        MachineError("vm-001: cannot save its state: write: No space left on device"),
    ],
)
def test_whatever_a_save_meets_is_an_error_with_its_path_mocked(
    error: Exception, plan_of: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = ready_cluster(plan_of("demo"))

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(save, "hand_over", refuse)
    monkeypatch.setattr(save, "_check_room", lambda *_: None)
    with pytest.raises(HostError, match="the cluster keeps running without one") as caught:
        save.save(cluster, None, None, "mine", Silent())  # type: ignore[arg-type]
    assert caught.value.where


def test_that_checks_passed_need_not_be_written_down(plan_of: Callable[..., Plan],
                                                     tmp_path: Path) -> None:  # fmt: skip
    with read_only(tmp_path) as disk:
        remember_passed(plan_of(), disk)


# --- restoring --------------------------------------------------------------------------------


def saved_cluster(cluster: str = "demo") -> store.Snapshot:
    where = store.directory(cluster, "mine")
    for name in ("nodes", "pki"):
        (where / name).mkdir(parents=True)
        (where / name / "file").write_bytes(DATA[: 1 << 20])
    for name in (REQUEST, PLAN, BOOT, GUEST_FILES):
        (where / name).write_text("{}")
    files, states, sums = store.describe(where)
    value = store.Snapshot(
        cluster=cluster, label="mine", key="k", overlays=(), nodes=(), created=1.0, files=files,
        states=states, sums=sums,
    )  # fmt: skip
    store.write(value, where)
    return value


@pytest.mark.parametrize("happen", [fill, close])
def test_a_restore_without_room_ends_nothing_that_runs_mocked(
    tmp_path: Path, happen: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """reset first ended the cluster, then found the disk full."""
    swept: list[str] = []
    monkeypatch.setattr(up, "sweep", lambda name, **_: swept.append(name))
    monkeypatch.setattr(up, "read_boot", lambda _: None)
    monkeypatch.setattr(up, "_unfit", lambda *_: None)
    monkeypatch.setattr(up, "damaged", lambda _: None)
    with tmpfs(tmp_path / "disk", "8m") as disk:
        monkeypatch.setattr(store, "snapshots_dir", lambda cluster: disk / "snapshots" / cluster)
        value = saved_cluster()
        happen(disk)
        assert run(["snapshot", "restore", "mine", "--name", "demo"]) == 5
        assert str(disk) in capfd.readouterr()[1]
        assert swept == []
        assert store.problem(value) is None
        assert store.read("demo", "mine") == value
        with pytest.raises(DiskError), staged(value):
            pass


def test_a_snapshot_is_not_dropped_for_want_of_room_mocked(
    monkeypatch: pytest.MonkeyPatch, plan_of: Callable[..., Plan]
) -> None:
    value = saved_cluster()
    monkeypatch.setattr(store, "key_of", lambda _: "k")
    monkeypatch.setattr(store, "read", lambda *_: value)
    monkeypatch.setattr(up, "read_boot", lambda _: SimpleNamespace(missing=lambda: None))
    monkeypatch.setattr(up, "unchecked", lambda *_: frozenset())
    monkeypatch.setattr(up, "damaged", lambda _: None)

    def refuse(*_: object, **__: object) -> None:
        raise DiskError("full")

    monkeypatch.setattr(up, "_restore", refuse)
    inputs = SimpleNamespace(plan=plan_of("demo"))
    with pytest.raises(DiskError):
        up._restored(inputs, Clock(Silent()), checks=True)  # type: ignore[arg-type]
    assert value.directory.exists()


def test_the_error_of_a_start_is_told_even_if_it_cannot_be_kept(tmp_path: Path,
                                                                monkeypatch: pytest.MonkeyPatch,
                                                                ) -> None:  # fmt: skip
    (state_dir("demo") / "console").mkdir(parents=True)
    (state_dir("demo") / "console" / "vm-001.log").write_text("hello")
    with read_only(tmp_path) as disk:
        monkeypatch.setattr(failed_start, "failure_dir", lambda name: disk / "failures" / name)
        error: Xk8sError = MachineError("the VM ended")
        assert failed_start.keep("demo", error) is False
