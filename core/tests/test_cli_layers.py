"""`xk8s layers`: what the cache has, who needs it, and that prune takes nothing that is needed."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from xk8s.artifact_keys import artifact_key
from xk8s.build.artifacts.attempt import Resolved
from xk8s.build.layers.build import BuiltLayer, LayerStore, image_lock
from xk8s.build.layers.cache import list_layers, prune
from xk8s.build.layers.erofs_write import ALIGNMENT
from xk8s.cli import app
from xk8s.cluster.disk.references import users
from xk8s.cluster.snapshots import store
from xk8s.cluster.state.snapshot_places import remember_snapshots
from xk8s.overlay import File, Layer, Symlink, Take
from xk8s.sources import Artifact
from xk8s.util.files import tree_digest
from xk8s.util.jobs import MARK
from xk8s.util.processes import CLUSTER_VARIABLE

Run = Any


@pytest.fixture(autouse=True)
def cache(own_places: Path) -> Path:
    return own_places / "cache"


def bake(cache: Path, name: str, text: str = "x", overlay: str = "o") -> BuiltLayer:
    entries = (
        File(path=f"/etc/{name}", data=text.encode(), mode=0o755),
        Symlink(path="/etc/link", target="there"),
    )
    layer = Layer(name=name, entries=entries, roles=frozenset({"router"}))
    return LayerStore(cache).build(layer, {}, overlay=overlay)


def run(capfd: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert app.run(["layers", *words]) == code
    out, err = capfd.readouterr()
    return out if code == 0 else err


def as_json(capfd: pytest.CaptureFixture[str], *words: str) -> Any:
    return json.loads(run(capfd, *words, "--json"))


def age(built: BuiltLayer, seconds: float) -> None:
    when = time.time() - seconds
    os.utime(built.path.with_suffix(".json"), (when, when))


@pytest.fixture
def machine() -> Iterator[Run]:
    """Starts a process whose command line names an image, as QEMU's does."""
    started = []

    def start(image: Path, *, cluster: str) -> None:
        code = "import os, sys; os.close(1); sys.stdin.read()"
        argv = [sys.executable, "-c", code, f"driver=raw,file.filename={image}"]
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, CLUSTER_VARIABLE: f"/run/xk8s/{cluster}"},
        )
        started.append(process)
        assert process.stdout is not None
        process.stdout.read()  # it runs

    try:
        yield start
    finally:
        for process in started:
            process.communicate()


def save(cluster: str, label: str, *layers: BuiltLayer) -> store.Snapshot:
    """A snapshot that needs these images."""
    where = store.directory(cluster, label)
    where.mkdir(parents=True)
    value = store.Snapshot(
        cluster=cluster, label=label, key="k", overlays=(), nodes=(), created=1.0, files={},
        states={}, layers={layer.name: layer.key for layer in layers},
    )  # fmt: skip
    store.write(value, where)
    return value


# --- what there is ----------------------------------------------------------------------


def test_an_empty_cache(capfd: pytest.CaptureFixture[str]) -> None:
    head = "LAYER  OVERLAY  SIZE  DIGEST  ROLES  LAST USED  NEEDED BY\n"
    assert run(capfd) == head
    assert as_json(capfd) == []
    assert "0 removed" in run(capfd, "prune")


def test_all_of_the_cache(cache: Path, capfd: pytest.CaptureFixture[str], machine: Run) -> None:
    one, two = bake(cache, "one", overlay="first"), bake(cache, "two")
    machine(one.path, cluster="demo")
    save("demo", "mine", one)
    lines = [line.split("  ") for line in run(capfd).splitlines()[1:]]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert [cell[:2] for cell in cells] == [["one", "first"], ["two", "o"]]
    assert cells[0][3] == one.key[:12]
    assert cells[0][4] == "router"
    assert cells[0][-1] == "cluster demo, snapshot demo/mine"
    first, second = as_json(capfd, "list")
    assert first["digest"] == one.key
    assert 0 < first["size"] < one.size  # a hole takes no room
    assert first["path"] == str(one.path)
    assert first["needed_by"] == ["cluster demo", "snapshot demo/mine"]
    assert (second["name"], second["needed_by"]) == ("two", [])
    assert abs(second["used"] - time.time()) < 60
    assert two.path.exists()


def test_a_second_use_is_a_use(cache: Path) -> None:
    age(bake(cache, "one"), 5000)
    before = list_layers(cache)[0].used
    bake(cache, "one")
    assert list_layers(cache)[0].used > before + 4000


def test_layers_of_overlays_are_there_or_not(
    cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "work" / "etc").mkdir(parents=True)
    (tmp_path / "work" / "etc" / "motd").write_text("mine")
    found = {layer["name"]: layer for layer in as_json(capfd, "debian", "./work")}
    assert list(found) == ["debian-base", "debian-modules", "debian-config", "local-work"]
    base, own = found["debian-base"], found["local-work"]
    assert (base["cached"], base["digest"]) == (False, None)
    assert base["missing"] == ["debian-base"]
    assert (own["overlay"], own["cached"]) == (str(tmp_path / "work"), False)
    entries = (File(path="/etc/motd", data=b"mine"),)
    built = LayerStore(cache).build(Layer(name="local-work", entries=entries), {})
    assert own["digest"] == built.key
    own = as_json(capfd, "list", "debian", "./work")[-1]
    assert (own["cached"], own["size"], own["path"]) == (True, built.size, str(built.path))
    lines = run(capfd, "debian", "./work").splitlines()
    assert "needs the artifact debian-base" in lines[1]
    assert lines[-1].split()[-2:] == ["all", "there"]


def test_an_unknown_overlay_or_subcommand(capfd: pytest.CaptureFixture[str]) -> None:
    assert "there is no overlay 'prun'" in run(capfd, "prun", code=2)
    assert "No such option" in run(capfd, "--nonsense", code=2)


def test_the_paths_inside(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    built = bake(cache, "one", "hello")
    assert run(capfd, "show", "one").splitlines() == [
        "drwxr-xr-x          0  /etc",
        "lrwxrwxrwx          5  /etc/link -> there",
        "-rwxr-xr-x          5  /etc/one",
    ]
    shown = as_json(capfd, "show", built.key[:8])
    assert shown["digest"] == built.key
    assert shown["paths"][1:] == [
        {"path": "/etc/link", "kind": "link", "mode": "0777", "size": 5, "target": "there"},
        {"path": "/etc/one", "kind": "file", "mode": "0755", "size": 5, "target": None},
    ]
    assert run(capfd, "cat", "one", "/etc/one") == "hello"
    assert "/etc/two does not exist" in run(capfd, "cat", "one", "/etc/two", code=2)
    assert "/etc is not a file" in run(capfd, "cat", "one", "/etc", code=2)
    error = run(capfd, "show", "onee", code=2)
    assert "there is no layer 'onee'" in error
    assert "did you mean 'one'" in error
    run(capfd, "show", built.key[:3], code=2)  # too short to mean anything


def test_of_several_images_of_a_name_the_last_used_is_shown(
    cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    old, new = bake(cache, "one", "old"), bake(cache, "one", "new")
    age(old, 100)
    assert app.run(["layers", "cat", "one", "/etc/one"]) == 0
    out, err = capfd.readouterr()
    assert out == "new"
    assert err.startswith(f"this is {new.key[:12]}")
    assert old.key[:12] in err
    assert run(capfd, "cat", old.key, "/etc/one") == "old"


def test_records_of_another_version_or_none(cache: Path) -> None:
    built, other = bake(cache, "one"), bake(cache, "two")
    built.path.with_suffix(".json").write_text('{"name": "one", "size": 1, "paths": []}')
    other.path.with_suffix(".json").unlink()
    names = {layer.key: (layer.name, layer.overlay, layer.roles) for layer in list_layers(cache)}
    assert names == {built.key: ("one", "", ()), other.key: ("(unknown)", "", ())}
    for text in ("", "[]", "\0"):
        built.path.with_suffix(".json").write_text(text)
        assert len(list_layers(cache)) == 2


# --- prune ------------------------------------------------------------------------------


def left(cache: Path) -> set[str]:
    return {path.name for path in (cache / "layers").iterdir()}


def files(*layers: BuiltLayer) -> set[str]:
    return {f"{layer.key}.{suffix}" for layer in layers for suffix in ("erofs", "json", "compared")}


def test_prune_leaves_what_a_cluster_or_a_snapshot_needs(
    cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], machine: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    running, snap, foreign, free = (bake(cache, name) for name in "abcd")
    machine(running.path, cluster="demo")
    save("demo", "mine", snap)
    # Another state directory has a snapshot, too: the cache remembers where.
    monkeypatch.setenv("XK8S_STATE", str(tmp_path / "other"))
    save("theirs", "auto", foreign)
    remember_snapshots(cache)
    monkeypatch.setenv("XK8S_STATE", str(tmp_path / "state"))
    size = free.path.stat().st_blocks * 512

    dry = as_json(capfd, "prune", "--dry-run")
    assert dry["removed"] == [{"name": "d", "digest": free.key, "freed": size}]
    assert left(cache) == files(running, snap, foreign, free)
    assert "1 would be removed" in run(capfd, "prune", "--dry-run")

    done = as_json(capfd, "prune")
    assert (done["freed"], done["removed"]) == (size, dry["removed"])
    assert {layer["name"]: layer["needed_by"] for layer in done["needed"]} == {
        "a": ["cluster demo"],
        "b": ["snapshot demo/mine"],
        "c": ["snapshot theirs/auto"],
    }
    assert left(cache) == files(running, snap, foreign)
    # One snapshot less, one image less.
    store.remove(store.find("demo", "mine"))
    out = run(capfd, "prune")
    assert "b" in out.split()
    assert "1 removed" in out
    assert left(cache) == files(running, foreign)


def test_a_state_directory_that_is_gone_needs_nothing(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = bake(cache, "one")
    monkeypatch.setenv("XK8S_STATE", str(tmp_path / "gone"))
    remember_snapshots(cache)
    assert built.key not in users(cache)


def test_only_what_was_not_used_for_long(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    old, new = bake(cache, "old"), bake(cache, "new")
    age(old, 3 * 86400)
    found = as_json(capfd, "prune", "--older-than", "4d")
    assert found["removed"] == []
    assert {layer["name"] for layer in found["recent"]} == {"old", "new"}
    assert "1 removed" in (out := run(capfd, "prune", "--older-than", "48h"))
    assert "1 used recently" in out
    assert "last used 3 d ago" in out
    assert left(cache) == files(new)
    for text in ("2", "h", "-1d", "2y", ""):
        assert "is not like" in run(capfd, "prune", "--older-than", text, code=2)


def test_data_that_an_artifact_has_too_frees_nothing(
    cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tree = tmp_path / "cache" / "artifacts" / "k" / "tree"
    tree.mkdir(parents=True)
    (tree / "image").write_bytes(b"x" * ALIGNMENT)
    artifact = Artifact(name="base", version="1", members=("image",), sources=())
    resolved = Resolved(
        name="base", version="1", key="k", path=tree, digest=tree_digest(tree), provenance=()
    )
    layer = Layer(name="base", image=Take(artifact=artifact, member="image", path="/"))
    built = LayerStore(cache).build(layer, {artifact_key(artifact): resolved})
    assert built.path.samefile(tree / "image")
    out = run(capfd, "prune")
    assert "frees nothing: an artifact has the same data" in out
    assert "1 removed, 0 B freed" in out
    assert (tree / "image").stat().st_size == ALIGNMENT


def test_what_killed_builds_left_goes_and_a_build_stays(
    cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = cache / "layers"
    for key in ("1" * 64, "2" * 64):
        (root / f".tmp-{key}" / "tree").mkdir(parents=True)
        (root / f".tmp-{key}" / "tree" / "file").write_bytes(b"x" * 10_000)
    (root / f"{'3' * 64}.json").write_text("{}")
    # A program of the killed build that still runs, and would write on.
    program = subprocess.Popen(
        ["sleep", "600"], env={**os.environ, MARK: str(image_lock(cache, "1" * 64))}
    )
    try:
        with FileLock(image_lock(cache, "2" * 64)):
            assert as_json(capfd, "prune", "--dry-run")["freed"] >= 10_000
            assert len(left(cache)) == 3
            found = as_json(capfd, "prune")
            assert [layer["digest"] for layer in found["removed"]] == ["1" * 64, "3" * 64]
            assert found["freed"] >= 10_000
            assert left(cache) == {f".tmp-{'2' * 64}"}
        assert program.wait(10) == -9
    finally:
        program.kill()
        program.wait()
    run(capfd, "prune")
    assert left(cache) == set()


def test_what_an_up_at_work_has_taken_stays(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store, built = LayerStore(cache), bake(cache, "one")
    hold = store.hold(built)
    assert hold is not None
    second = store.hold(built)
    assert second is not None  # two may need it
    hold.close()
    found = as_json(capfd, "prune")
    assert found["removed"] == []
    assert found["needed"][0]["needed_by"] == ["another xk8s at work"]
    second.close()
    assert len(as_json(capfd, "prune")["removed"]) == 1
    assert store.hold(built) is None


def test_a_build_does_not_wait_for_those_who_use_the_image(cache: Path) -> None:
    """Two `up` want the same new layer: the one that made it holds it for minutes."""
    store, built = LayerStore(cache), bake(cache, "one")
    away = built.path.with_name("away")
    hold = store.hold(built)
    assert hold is not None
    with hold, ThreadPoolExecutor() as pool:
        built.path.rename(away)
        second = pool.submit(bake, cache, "one")
        time.sleep(0.3)
        assert not second.done()
        away.rename(built.path)
        assert second.result(20) == built


def test_an_image_of_a_local_directory_is_for_this_user_alone(cache: Path) -> None:
    layer = Layer(name="one", entries=(File(path="/x", data=b"x"),))
    built = LayerStore(cache).build(layer, {}, private=True)
    assert built.path.stat().st_mode & 0o777 == 0o600


def build_and_look(cache: Path, until: float) -> None:
    """What `up` does with a layer, over and over: what it holds must be there."""
    store, count = LayerStore(cache), 0
    layer = Layer(name="one", entries=(File(path="/x", data=b"x"),))
    while time.time() < until or count < 3:
        built = store.build(layer, {})
        if hold := store.hold(built):
            for _ in range(20):
                assert built.path.exists(), "prune took an image that was held"
                assert built.path.with_suffix(".json").exists()
                time.sleep(0.001)
            hold.close()
            count += 1


def test_prune_beside_builds_takes_nothing_that_is_held(cache: Path) -> None:
    cache.mkdir()
    context = multiprocessing.get_context("fork")
    until = time.time() + 3
    workers = [
        context.Process(target=build_and_look, args=(cache, until), daemon=True) for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    removed = 0
    while any(worker.is_alive() for worker in workers):
        removed += len(prune(cache, dict).removed)
        assert time.time() < until + 60
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert removed, "nothing was ever removed: then this test proves nothing"


def test_more_images_than_files_may_be_open(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    root = cache / "layers"
    root.mkdir(parents=True)
    for number in range(300):
        (root / f"{number:064x}.erofs").write_bytes(b"x")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        assert len(prune(cache, dict).removed) == 300
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
