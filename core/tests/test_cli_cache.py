"""`xk8s cache`: what takes room, and that prune takes the oldest and nothing that is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from xk8s.build.artifacts.store import Store
from xk8s.build.layers.build import BuiltLayer, LayerStore
from xk8s.cli import app
from xk8s.cluster.disk.prune import KEPT, RECENT, UNUSED, bound_snapshots, prune
from xk8s.cluster.disk.usage import Piece, pieces
from xk8s.cluster.snapshots import store
from xk8s.cluster.state.record import NodeRecord, Record, locked, write_record
from xk8s.cluster.state.snapshot_places import remember_snapshots
from xk8s.overlay import File, Layer
from xk8s.progress import Silent
from xk8s.recipe import RecipeContext
from xk8s.sources import Artifact, Recipe
from xk8s.util.paths import cache_lock, snapshots_root
from xk8s.util.processes import Process

MIB = 1 << 20
ALL = 1 << 50
DAY = 86400.0


@pytest.fixture(autouse=True)
def cache(own_places: Path) -> Path:
    return own_places / "cache"


def aged(path: Path, seconds: float) -> None:
    when = time.time() - seconds
    os.utime(path, (when, when))


def snapshot(
    cluster: str,
    label: str,
    *,
    age: float = 0.0,
    size: int = MIB,
    layers: dict[str, str] | None = None,
) -> store.Snapshot:
    where = store.directory(cluster, label)
    where.mkdir(parents=True)
    (where / "vm-001.ram").write_bytes(b"x" * size)
    files, states, sums = store.describe(where)
    value = store.Snapshot(
        cluster=cluster, label=label, key="k", overlays=(), nodes=("vm-001",), created=1.0,
        files=files, states=states, sums=sums, layers=layers or {},
    )  # fmt: skip
    store.write(value, where)
    aged(where / "meta.json", age)
    return value


def auto(cluster: str, letter: str, **more: Any) -> store.Snapshot:
    return snapshot(cluster, store.auto_label(letter * 64), **more)


def layer(cache: Path, name: str, age: float) -> BuiltLayer:
    entries = (File(path=f"/etc/{name}", data=b"x" * 100_000),)
    built = LayerStore(cache).build(Layer(name=name, entries=entries), {})
    aged(built.path.with_suffix(".json"), age)
    return built


def cook(recipe: RecipeContext) -> None:
    text = str(recipe.params["name"]) * 100_000
    (recipe.out / "member").write_text(text[:100_000])


def artifact(cache: Path, name: str, age: float) -> Path:
    """One with a member of some 100 kB."""
    recipe = Recipe(function=f"{__name__}:cook", params={"name": name})
    one = Artifact(name=name, version="1", members=("member",), sources=(recipe,))
    path = Store(cache).get(one, Silent()).path.parent
    aged(path / "provenance.json", age)
    return path


def running(name: str) -> None:
    """A cluster whose VM this process pretends to be."""
    process = Process.of(os.getpid())
    node = NodeRecord(name="vm-001", role="worker", pid=process.pid, started=process.started)
    write_record(
        Record(name=name, phase="running", overlays=(), digest="d", accel="tcg", nodes=(node,))
    )


def names(removed: Iterable[Piece]) -> set[str]:
    return {piece.name.split()[0] for piece in removed}


def left() -> set[str]:
    return {f"{saved.cluster}/{saved.label[:6]}" for saved in store.list_snapshots()}


# --- what there is ----------------------------------------------------------------------


def test_all_is_listed_with_its_size_and_whom_it_is_for(
    cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    built = layer(cache, "one", 5 * DAY)
    artifact(cache, "kernel", 3 * DAY)
    (cache / "downloads").mkdir()
    (cache / "downloads" / "abc.part").write_bytes(b"x" * 5000)
    auto("demo", "a", layers={"one": built.key})
    snapshot("demo", "mine", age=DAY)
    (snapshots_root() / "demo" / "late.new").mkdir()
    remember_snapshots(cache)
    running("demo")
    assert app.run(["cache", "--json"]) == 0
    said = json.loads(capfd.readouterr()[0])
    found = {(piece["kind"], piece["name"].split()[0]): piece for piece in said["pieces"]}
    assert set(found) == {
        ("snapshots", "demo/auto-" + "a" * 12), ("snapshots", "demo/mine"),
        ("leftovers", "demo/late.new"), ("layers", "one"), ("artifacts", "kernel"),
        ("downloads", "abc.part"), ("clusters", "demo"),
    }  # fmt: skip
    one = found["snapshots", "demo/auto-" + "a" * 12]
    assert MIB < one["bytes"] < 2 * MIB
    assert one["automatic"]
    assert one["needed_by"] == ["cluster demo"]
    assert found["layers", "one"]["needed_by"] == ["snapshot demo/auto-" + "a" * 12]
    assert abs(time.time() - DAY - found["snapshots", "demo/mine"]["used"]) < 60
    assert abs(time.time() - 3 * DAY - found["artifacts", "kernel"]["used"]) < 60
    assert said["total"] == sum(piece["bytes"] for piece in said["pieces"])
    assert said["automatic_snapshots"] == one["bytes"]
    assert said["snapshot_size"] == 20 << 30
    assert app.run(["cache"]) == 0
    text = capfd.readouterr()[0]
    assert "demo/mine" in text
    assert "of at most 20.0 GiB" in text


def test_data_that_two_have_counts_once(cache: Path) -> None:
    path = artifact(cache, "image", 0)
    (cache / "layers").mkdir()
    os.link(path / "tree" / "member", cache / "layers" / f"{'a' * 64}.erofs")
    sizes = {piece.kind: piece.size for piece in pieces(cache)}
    assert sizes["artifacts"] > 100_000
    assert sizes["layers"] == 0


def test_an_empty_cache_is_nothing(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert not cache.exists()
    assert app.run(["cache"]) == 0
    assert "0 B in all" in capfd.readouterr()[0]
    assert app.run(["cache", "prune"]) == 0
    assert "0 removed" in capfd.readouterr()[0]


# --- prune ------------------------------------------------------------------------------


def test_what_killed_commands_left_goes_and_what_is_at_work_stays(cache: Path) -> None:
    for cluster in ("demo", "busy"):
        (snapshots_root() / cluster / "late.new").mkdir(parents=True)
    (cache / "downloads").mkdir(parents=True)
    for name, age in (("old.part", 2 * RECENT), ("busy.part", 2 * RECENT), ("new.part", 0)):
        (cache / "downloads" / name).write_bytes(b"x" * 5000)
        aged(cache / "downloads" / name, age)
    (cache / "locks").mkdir()
    (cache / "artifacts" / f".tmp-{'a' * 64}-0").mkdir(parents=True)
    with locked("busy"), FileLock(cache / "locks" / "download-busy.lock"):
        done = _elsewhere(cache)
    assert done == {"demo/late.new", "old.part", f".tmp-{'a' * 64}-0"}
    assert {path.name for path in (cache / "downloads").iterdir()} == {"busy.part", "new.part"}
    assert (snapshots_root() / "busy" / "late.new").exists()


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_what_is_being_made_is_no_leftover_and_stays(
    cache: Path, capfd: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    """The template that an `up` was just writing went, and that `up` ended with 70."""
    key = "a" * 64
    making = {
        f"artifacts/.tmp-{key}-0": cache / "locks" / f"{key}.lock",
        f"templates/.new-{key}": cache / "locks" / f"template-{key}.lock",
        f"layers/.tmp-{key}": cache / "locks" / f"layer-{key}.lock",
    }
    (cache / "locks").mkdir(parents=True)
    for name in making:
        (cache / name).mkdir(parents=True)
        (cache / name / "part").write_bytes(b"x" * 5000)
    (snapshots_root() / "demo" / "late.new").mkdir(parents=True)
    with ExitStack() as stack:
        stack.enter_context(locked("demo"))
        for lock in making.values():
            stack.enter_context(FileLock(lock))
        assert app.run(["cache", "--json"]) == 0
        listed = json.loads(capfd.readouterr()[0])["pieces"]
        assert "leftovers" not in {piece["kind"] for piece in listed}
        made = {piece["kind"]: piece["needed_by"] for piece in listed}
        kinds = ("artifacts", "templates", "snapshots")
        assert made == {kind: ["another xk8s at work"] for kind in kinds}
        assert _elsewhere(cache, *options, "--max-size", "0") == set()
    for name in making:
        assert (cache / name / "part").exists()
    gone = _elsewhere(cache)
    assert gone == {f".tmp-{key}-0", f".new-{key}", "demo/late.new"}


def test_a_template_that_somebody_makes_anew_stays(cache: Path) -> None:
    key = "b" * 64
    (cache / "templates" / key).mkdir(parents=True)
    (cache / "locks").mkdir()
    with FileLock(cache / "locks" / f"template-{key}.lock"):
        assert _elsewhere(cache, "--max-size", "0") == set()
    assert _elsewhere(cache, "--max-size", "0") == {key[:12]}


def _elsewhere(cache: Path, *options: str) -> set[str]:
    """Prune in another process: a lock of this one would not stop it."""
    code = "import sys; from xk8s.cli.app import run; sys.exit(run(sys.argv[1:]))"
    argv = [sys.executable, "-c", code, "cache", "prune", "--json", *options]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return {piece["name"] for piece in json.loads(done.stdout)["removed"]}


def test_the_oldest_automatic_snapshots_go_until_the_bound(cache: Path) -> None:
    auto("demo", "a", age=400)
    auto("demo", "b", age=300)
    auto("other", "c", age=500)
    snapshot("demo", "mine", age=900 * DAY, size=5 * MIB)
    dry = prune(cache, snapshot_size=int(1.5 * MIB), dry_run=True)
    assert len(left()) == 4
    done = prune(cache, snapshot_size=int(1.5 * MIB))
    gone = {f"demo/auto-{'a' * 12}", f"other/auto-{'c' * 12}"}
    assert names(dry.removed) == names(done.removed) == gone
    assert left() == {"demo/auto-b", "demo/mine"}
    assert prune(cache, snapshot_size=ALL).removed == ()


def test_snapshots_of_running_clusters_and_named_ones_stay_whatever_the_bound(cache: Path) -> None:
    auto("demo", "a", age=400)
    auto("other", "b", age=1)
    snapshot("other", "mine", age=400)
    running("demo")
    prune(cache, snapshot_size=0, max_size=0)
    assert left() == {"demo/auto-a", "other/mine"}


def test_what_was_not_used_for_a_month_goes(cache: Path) -> None:
    old = [layer(cache, "old", UNUSED + 60).path, artifact(cache, "old", UNUSED + 60)]
    new = [layer(cache, "new", UNUSED - 60).path, artifact(cache, "new", UNUSED - 60)]
    needed = layer(cache, "needed", 2 * UNUSED)
    kernel = artifact(cache, "kernel", 2 * UNUSED)
    one = snapshot("demo", "mine", layers={"needed": needed.key})
    (one.directory / "boot.json").write_text(f'"kernel": "artifacts/{kernel.name}/tree/member"')
    remember_snapshots(cache)
    done = prune(cache, snapshot_size=ALL)
    assert {(piece.kind, piece.name.split()[0]) for piece in done.removed} == {
        ("layers", "old"), ("artifacts", "old"),
    }  # fmt: skip
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in (*new, needed.path, kernel))


def test_lock_files_go_that_nobody_has_taken_for_a_month(cache: Path) -> None:
    old, held, new = (cache_lock(cache, name) for name in ("old", "held", "new"))
    for path in (old, held, new):
        path.touch()
    aged(old, UNUSED + 60)
    aged(held, UNUSED + 60)
    prune(cache, snapshot_size=ALL, dry_run=True)
    assert old.exists()
    with FileLock(held):
        _elsewhere(cache)
    assert [path.exists() for path in (old, held, new)] == [False, True, True]


def test_more_goes_oldest_first_until_all_is_small_enough(cache: Path) -> None:
    artifact(cache, "first", 9 * DAY)
    layer(cache, "second", 8 * DAY)
    auto("demo", "c", age=7 * DAY)
    artifact(cache, "fourth", 6 * DAY)
    artifact(cache, "today", 60)
    total = sum(piece.size for piece in pieces(cache))
    done = prune(cache, snapshot_size=ALL, max_size=total - 150_000)
    assert names(done.removed) == {"first", "second"}
    assert done.left == sum(piece.size for piece in pieces(cache)) <= total - 150_000
    done = prune(cache, snapshot_size=ALL, max_size=0)
    assert names(done.removed) == {f"demo/auto-{'c' * 12}", "fourth"}
    assert [piece.name for piece in pieces(cache) if piece.kind == "artifacts"] == ["today 1"]


def test_images_of_snapshots_that_went_go_too(cache: Path) -> None:
    built = layer(cache, "its", 60)
    auto("demo", "a", layers={"its": built.key})
    remember_snapshots(cache)
    prune(cache, snapshot_size=ALL, max_size=0)
    assert not built.path.exists()


@pytest.mark.parametrize(("text", "code"), [("20G", 0), ("1.5T", 0), ("512MiB", 0), ("much", 2)])
def test_sizes_are_typed_as_usual(text: str, code: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run(["cache", "prune", "--max-size", text]) == code
    out, err = capfd.readouterr()
    assert ("is not like" in err) == (code != 0), out


def test_an_artifact_that_is_used_is_used_now(cache: Path) -> None:
    path = artifact(cache, "kernel", 90 * DAY)
    assert time.time() - (path / "provenance.json").stat().st_mtime > 80 * DAY
    recipe = Recipe(function=f"{__name__}:cook", params={"name": "kernel"})
    one = Artifact(name="kernel", version="1", members=("member",), sources=(recipe,))
    assert Store(cache).get(one, Silent()).path.parent == path
    assert time.time() - (path / "provenance.json").stat().st_mtime < 60


# --- what `up` does after it saved --------------------------------------------------------


def test_the_one_just_saved_stays_and_others_go_by_their_last_use() -> None:
    auto("demo", "a", age=500)
    auto("other", "b", age=900)
    auto("busy", "c", age=950)
    auto("used", "d", age=990).mark_used()
    last = auto("demo", "e", size=9 * MIB, age=10)
    running("demo")
    running("busy")
    gone = bound_snapshots("demo", last.label, int(11.5 * MIB))
    assert [piece.name for piece in gone] == [f"other/auto-{'b' * 12}", f"demo/auto-{'a' * 12}"]
    assert left() == {"busy/auto-c", "used/auto-d", "demo/auto-e"}
    bound_snapshots("demo", last.label, 0)
    assert left() == {"busy/auto-c", "demo/auto-e"}


def test_a_cluster_that_somebody_works_on_keeps_its_snapshots() -> None:
    auto("other", "b", age=900)
    code = (
        "import sys; from xk8s.cluster.state.record import locked\n"
        "with locked('other'): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert bound_snapshots("demo", "auto-x", 0) == ()
        holder.communicate()
    assert names(bound_snapshots("demo", "auto-x", 0)) == {f"other/auto-{'b' * 12}"}


def test_of_each_cluster_those_used_last_stay_and_all_of_the_user(cache: Path) -> None:
    kept = [auto("demo", digit, age=100 * age) for age, digit in enumerate("12345", start=1)]
    snapshot("demo", "mine", age=900)
    auto("other", "6", age=900)
    kept[-1].mark_used()
    dry = prune(cache, snapshot_size=ALL, dry_run=True)
    gone = {f"demo/{kept[2].label}", f"demo/{kept[3].label}"}
    assert names(dry.removed) == gone
    assert names(bound_snapshots("demo", kept[0].label, ALL)) == gone
    assert KEPT == 3
    assert left() == {"demo/auto-1", "demo/auto-2", "demo/auto-5", "demo/mine", "other/auto-6"}
    assert prune(cache, snapshot_size=ALL).removed == ()
