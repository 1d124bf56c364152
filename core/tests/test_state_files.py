"""State files that cannot be read: an error that says what to do, and no VM is lost.

The VM is a process that carries the cluster's mark and sleeps.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from xk8s.checks import run_check
from xk8s.cli import app
from xk8s.cli.errors import EXIT_UNEXPECTED
from xk8s.cluster.disk.usage import pieces
from xk8s.cluster.handle import open_cluster
from xk8s.cluster.prepare import Clock
from xk8s.cluster.state import record as record_module
from xk8s.cluster.state.booted import planned_boot, write_boot
from xk8s.cluster.state.guest_files import GuestFiles, NodeFiles, write_guest_files
from xk8s.cluster.state.passed_checks import CHECKED
from xk8s.cluster.state.record import (
    NodeRecord,
    Record,
    list_clusters,
    read_record,
    write_record,
)
from xk8s.cluster.state.request_file import write_inputs
from xk8s.cluster.up import _finish, up
from xk8s.errors import HostError, StateError, UsageError
from xk8s.machine.qemu.accelerator import decide
from xk8s.names.request import Request
from xk8s.overlay import Check
from xk8s.planning.make_plan import make_plan
from xk8s.planning.plan import Plan
from xk8s.progress import Silent
from xk8s.util.paths import cache_dir, make_private, runtime_dir, runtime_root, state_dir
from xk8s.util.processes import Process, cluster_environment, end

pytestmark = pytest.mark.usefixtures("own_places")

FILES = ("record.json", "boot.json", "now.json", "request.json", "plan.json", "checked.json")
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "half": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
    "not UTF-8": lambda data: b"\xff" + data,
    "deep": lambda _: b"[" * 100_000,
    "number": lambda _: b"5",
    "null": lambda _: b"null",
    "list": lambda _: b"[]",
    "object": lambda _: b"{}",
    "other types": lambda data: _other_types(data),
    "other version": lambda data: _other_version(data),
    "huge numbers": lambda data: re.sub(rb"(\d)\b", rb"\g<1>" + b"0" * 5000, data),
}
VERBS: tuple[tuple[str, ...], ...] = (
    ("status",),
    ("status", "--all"),
    ("exec", "-n", "vm-001", "true"),
    ("logs", "vm-001"),
    ("console", "vm-001"),
    ("check",),
    ("apply",),
    ("scale", "--nodes", "2"),
    ("snapshot", "save", "one"),
    ("snapshot", "list"),
    ("snapshot", "verify", "one"),
    ("snapshot", "remove", "one"),
    ("snapshot", "restore", "one"),
    ("reset",),
    ("net", "exec", "--", "true"),
    ("report", "--no-check"),
    ("cache",),
    ("cache", "prune"),
    ("layers", "list"),
    ("layers", "prune"),
    ("up", "debian", "--nodes", "1", "--routers", "0"),
)


def _other_types(data: bytes) -> bytes:
    return json.dumps({key: [7, {"a": None}] for key in json.loads(data)}).encode()


def _other_version(data: bytes) -> bytes:
    return json.dumps({**json.loads(data), "version": 999}).encode()


def vm() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["sleep", "600"], env=cluster_environment(runtime_dir("t")), start_new_session=True
    )


@pytest.fixture(autouse=True)
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands come as far as their plans."""

    def stopped(*_: object) -> object:
        raise HostError("not in this test")

    def without_waiting(check: Check, *args: Any, **more: Any) -> Any:
        return run_check(evolve(check, timeout=0.01), *args, **more)

    for module in ("change.apply", "change.scale", "up"):
        monkeypatch.setattr(f"xk8s.cluster.{module}.make_inputs", stopped)
    monkeypatch.setattr("xk8s.checks.run_check", without_waiting)


@pytest.fixture
def plan() -> Plan:
    sets = ("cluster.nodes=1", "cluster.routers=0")
    return make_plan(Request(overlays=("debian",), name="t", sets=sets, environment={}))


@pytest.fixture
def running(plan: Plan) -> Iterator[Process]:
    """A cluster ``t`` with every state file; its VM."""
    make_private(runtime_root())
    make_private(runtime_dir("t"))
    child = vm()
    process = Process.of(child.pid)
    make_private(state_dir("t"))
    write_inputs(plan)
    write_boot(planned_boot(plan, decide("tcg"), {}), state_dir("t"))
    files = GuestFiles(
        key="", overlays={}, nodes={"vm-001": NodeFiles(stack=(), files={"/etc/x": "644:1"})}
    )
    write_guest_files(files, state_dir("t"))
    (state_dir("t") / CHECKED).write_text('{"debian": "x"}')
    node = NodeRecord(name="vm-001", role="control-plane", pid=process.pid, started=process.started)
    record = Record(
        name="t", phase="running", overlays=plan.ctx.overlays, digest=plan.digest,
        accel="tcg", nodes=(node,), seconds={"boot": 1.0},
    )  # fmt: skip
    write_record(record)
    yield process
    child.kill()
    child.wait()


def run(*words: str) -> int:
    return app.run(["--name", "t", "--quiet", *words])


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_no_verb_breaks_on_a_damaged_file_or_loses_a_vm(
    running: Process, name: str, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = state_dir("t") / name
    bad = DAMAGE[damage](path.read_bytes())
    path.write_bytes(bad)
    for verb in VERBS:
        code = run(*verb)
        error = capfd.readouterr().err
        assert code != EXIT_UNEXPECTED, (verb, error)
        assert running.alive, (verb, error)
        if name == "record.json" and verb[0] in ("exec", "apply", "scale", "check", "up"):
            assert code == StateError.exit_code, (verb, error)
            assert "xk8s down --name t" in error
            assert "there is no cluster" not in error
    if name == "record.json":
        assert path.read_bytes() == bad
        assert run("status", "--all") == 0
        assert "t  unknown" in capfd.readouterr().out
    assert run("down") == 0
    assert not running.alive
    assert not state_dir("t").exists()


@pytest.mark.parametrize("lost", ["record.json", "."])
def test_processes_without_a_record_are_not_nothing(
    running: Process, plan: Plan, lost: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = state_dir("t") / lost
    path.unlink() if path.is_file() else shutil.rmtree(path)
    for verb in VERBS:
        code = run(*verb)
        error = capfd.readouterr().err
        assert code != EXIT_UNEXPECTED, (verb, error)
        assert running.alive, (verb, error)
        if verb[0] in ("exec", "apply", "scale", "check", "up") or verb == ("status",):
            assert code == StateError.exit_code
            assert f"processes of it run: {running.pid}" in error
            assert "xk8s down --name t" in error
    assert run("down") == 0
    assert not running.alive


def test_up_takes_the_place_of_a_cluster_that_has_ended(
    running: Process, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    end([running], grace=0)
    (state_dir("t") / "record.json").write_text("[")

    def begun(*_: object) -> object:
        raise HostError("begun")

    monkeypatch.setattr("xk8s.cluster.up.make_inputs", begun)
    with pytest.raises(HostError, match="begun"):
        up(plan, Silent())


def test_a_cluster_of_another_runtime_directory_is_left_alone(
    running: Process, own_places: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """As in a session without XDG_RUNTIME_DIR: its processes are not found there."""
    was = own_places / "runtime"
    monkeypatch.setenv("XK8S_RUNTIME", str(own_places / "other"))
    for verb in (("up", "debian"), ("down",), ("status",), ("exec", "-n", "vm-001", "true")):
        assert run(*verb) == StateError.exit_code
        assert f"XK8S_RUNTIME={was}" in capfd.readouterr().err
        assert running.alive
        assert (state_dir("t") / "record.json").exists()


# --- a full disk ------------------------------------------------------------------------


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """A state directory on a small disk; called, it fills it to the last block."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can make a small disk to fill")
    monkeypatch.setenv("XK8S_STATE", str(place / "state"))
    (place / "state").mkdir()

    def fill() -> None:
        with (place / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    yield fill
    subprocess.run(["umount", str(place)], check=True)


def test_on_a_full_disk_a_cluster_is_written_down_used_and_taken_down(
    full: Callable[[], None], running: Process
) -> None:
    record = evolve(open_cluster("t").record, phase="starting")
    write_record(record)
    full()
    with pytest.raises(OSError, match="No space"):
        (state_dir("t") / "more").write_bytes(bytes(5000))
    seconds = {f"a stage with a long name {number}": 1.5 for number in range(10)}
    write_record(evolve(record, phase="running", seconds=seconds))
    found = read_record("t")
    assert found is not None
    assert (found.phase, found.seconds) == ("running", seconds)
    assert run("up", "debian", "--nodes", "1", "--routers", "0") == StateError.exit_code
    assert running.alive
    assert run("down") == 0
    assert not running.alive


def test_a_record_that_cannot_be_written_leaves_the_vms_mocked(
    running: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(*_: object) -> object:
        raise OSError(5, "Input/output error")

    cluster = open_cluster("t")
    monkeypatch.setattr(record_module, "write_private", failed)
    with pytest.raises(HostError, match="'t' runs, but that cannot be written down"):
        _finish(cluster, Clock(Silent()), "running")
    assert running.alive
    assert open_cluster("t").alive("vm-001")


# --- after a restart of the host --------------------------------------------------------


def test_status_of_a_cluster_whose_vms_are_gone_says_so(
    running: Process, capfd: pytest.CaptureFixture[str]
) -> None:
    end([running], grace=0)
    assert run("status") == StateError.exit_code
    out, error = capfd.readouterr()
    assert "cluster 't': ended" in out
    assert out.count("ended") == 2  # the cluster, and its node
    assert "has ended" in error
    assert "xk8s up" in error
    assert run("status", "--json") == StateError.exit_code
    status = json.loads(capfd.readouterr().out)
    assert status["phase"] == "ended"
    assert [node["running"] for node in status["nodes"]] == [False]
    assert run("status", "--all") == 0
    assert "t  ended: debian" in capfd.readouterr().out
    assert run("down") == 0


# --- names of others --------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["good.bak", ".bench", "Good", "a file.txt", "x" * 200, "lost+found"]
)
@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_stray_names_break_no_verb_and_stay(
    running: Process, own_places: Path, name: str, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    strays = []
    for parent in ("state", "state/clusters", "state/failures", "state/snapshots",
                   "state/snapshots/t", "runtime", "cache"):  # fmt: skip
        path = own_places / parent / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if kind == "directory":
            shutil.copytree(state_dir("t"), path)
        elif kind == "link":
            path.symlink_to("/no/such/file")
        else:
            path.write_text("x")
        strays.append(path)
    for verb in VERBS:
        if verb[0] != "up":
            code = run(*verb)
            error = capfd.readouterr().err
            assert code != EXIT_UNEXPECTED, (verb, error)
            assert code != UsageError.exit_code or verb == ("snapshot", "save", "one"), error
    assert list_clusters() == ("t",)
    assert run("status", "--all") == 0
    assert run("cache", "prune") == 0
    assert name not in {piece.name for piece in pieces(cache_dir())}
    assert run("down", "--all") == 0
    assert not running.alive
    assert [path for path in strays if not os.path.lexists(path)] == []


@pytest.mark.parametrize("variable", ["XK8S_STATE", "XK8S_CACHE", "XK8S_RUNTIME", "XK8S_MEMORY"])
def test_a_file_in_place_of_a_directory_is_named(
    own_places: Path, variable: str, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    place = own_places / "file"
    place.write_text("")
    monkeypatch.setenv(variable, str(place))
    failed = 0
    for verb in (*VERBS, ("down",), ("down", "--all")):
        if verb[0] == "up" and variable == "XK8S_MEMORY":
            continue
        code = run(*verb)
        error = capfd.readouterr().err
        assert code != EXIT_UNEXPECTED, (verb, error)
        if code in (UsageError.exit_code, HostError.exit_code) and "in this test" not in error:
            failed += 1
            assert str(place) in error, (verb, error)
    assert failed or variable == "XK8S_MEMORY"
