"""What comes out of the cache: complete artifacts with a known origin, or a clear error."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from attrs import evolve
from xk8s.artifact_keys import artifact_key
from xk8s.build.artifacts.attempt import Resolved
from xk8s.build.artifacts.lockfile import LockFile
from xk8s.build.artifacts.store import Store
from xk8s.errors import ArtifactError, BuildError, HostError, PluginError
from xk8s.progress import Silent
from xk8s.recipe import RecipeContext
from xk8s.sources import Artifact, OwnDirectory, Recipe, Release
from xk8s.util.jobs import MARK, end_leftovers, marked
from xk8s.util.log import Record

from tests.notes import Notes


@pytest.fixture
def cache(own_places: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Recipes are named by module: let this very module be found by its name.
    monkeypatch.setitem(sys.modules, "kitchen_of_tests", sys.modules[__name__])
    return own_places / "cache"


def recipe(name: str, function: str, *inputs: Artifact, members=("out",), **params) -> Artifact:
    source = Recipe(function=f"kitchen_of_tests:{function}", params=params, inputs=inputs)
    return Artifact(name=name, version="1", members=members, sources=(source,))


def temporaries(cache: Path) -> list[Path]:
    return [*cache.rglob(".tmp-*"), *cache.rglob("*.part")]


# --- what the recipes of these tests do ---

calls: list[str] = []


def write(recipe: RecipeContext) -> None:
    calls.append(recipe.name)
    inputs = {name: (path / "out").read_text() for name, path in recipe.inputs.items()}
    (recipe.out / "out").write_text(json.dumps([recipe.params.get("text"), inputs]))
    (recipe.out / "beside").mkdir()
    (recipe.out / "beside" / "more").write_text("not a member but wanted")


def copy(recipe: RecipeContext) -> None:
    calls.append(recipe.places["file"])
    (recipe.out / "out").write_text(Path(recipe.places["file"]).read_text())


def nothing(recipe: RecipeContext) -> None:
    pass


def fail(recipe: RecipeContext) -> None:
    recipe.run(["sh", "-c", "for i in $(seq 99); do echo line $i; done; exit 3"])


def missing_program(recipe: RecipeContext) -> None:
    recipe.run(["xk8s-no-such-program"])


def full(recipe: RecipeContext) -> None:
    (recipe.out / "out").write_text("some")
    raise OSError(errno.ENOSPC, "No space left on device")


def full_program(recipe: RecipeContext) -> None:
    recipe.run(["sh", "-c", "echo tool: write: No space left on device >&2; exit 1"])


def sleep(recipe: RecipeContext) -> None:
    started = recipe.params["started"]
    recipe.run(["sh", "-c", 'echo $$ > "$1"; sleep 600 & sleep 600', "sh", started])


def fail_when_started(recipe: RecipeContext) -> None:
    wait_for(Path(recipe.params["started"]))
    raise BuildError("burnt")


def wait_for(path: Path) -> str:
    until = time.monotonic() + 10
    while not (path.exists() and path.read_text().strip()):
        assert time.monotonic() < until, f"{path} never came"
        time.sleep(0.01)
    return path.read_text().strip()


def wait_gone(pid: int) -> None:
    until = time.monotonic() + 10
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        assert time.monotonic() < until, f"process {pid} is still there"
        time.sleep(0.01)


# --- tests ---


def test_a_recipe_is_made_once_and_found_again(cache: Path) -> None:
    calls.clear()
    artifact = recipe("thing", "write", text="hello")
    first = Store(cache).get(artifact, Silent())
    again = Store(cache).get(artifact, Silent())
    assert calls == ["thing"]
    assert first == again
    assert json.loads((first.path / "out").read_text()) == ["hello", {}]
    assert (first.path / "beside" / "more").exists()
    (origin,) = first.provenance
    assert (origin.member, origin.kind) == ("out", "recipe")
    assert [resolved.name for resolved in Store(cache).list_cached()] == ["thing"]
    assert not temporaries(cache)


def test_the_log_says_why_the_cache_had_it_not(cache: Path, records: list[Record]) -> None:
    store = Store(cache)
    for artifact in (
        recipe("first", "write", text="a"),
        recipe("first", "write", text="a"),
        recipe("first", "write", text="b"),
        evolve(recipe("first", "write", text="a"), version="2"),
    ):
        store.get(artifact, Silent())
    found = [
        (record.event, record.fields.get("reason"))
        for record in records
        if record.event.startswith("cache_")
    ]
    assert found == [
        ("cache_miss", "not in the cache"),
        ("cache_hit", None),
        ("cache_miss", "its definition, a source or an input changed"),
        ("cache_miss", "the cache has other versions: 1"),
    ]


def test_programs_of_recipes_are_logged(cache: Path, records: list[Record]) -> None:
    with pytest.raises(BuildError):
        Store(cache).get(recipe("first", "fail"), Silent())
    (program,) = [record.fields for record in records if record.event == "program_run"]
    assert program["argv"][0] == "sh"  # type: ignore[index]
    assert program["exit_code"] == 3


def test_inputs_are_made_first_and_each_once(cache: Path) -> None:
    calls.clear()
    base = recipe("base", "write", text="b")
    tops = [recipe(f"top{number}", "write", base, text=number) for number in range(4)]
    found = Store(cache).get_many(tops, Silent())
    assert calls[0] == "base"
    assert sorted(calls) == ["base", "top0", "top1", "top2", "top3"]
    assert '"base"' in (found[artifact_key(tops[3])].path / "out").read_text()


def test_the_umask_does_not_change_an_artifact(tmp_path: Path, cache: Path) -> None:
    artifact = recipe("thing", "write", text="hello")
    digests = set()
    for number, mask in enumerate((0o077, 0o002)):
        old = os.umask(mask)
        try:
            digests.add(Store(tmp_path / str(number)).get(artifact, Silent()).digest)
            assert os.umask(mask) == mask
        finally:
            os.umask(old)
    assert len(digests) == 1


def test_own_directory_is_completed_by_the_next_source(tmp_path: Path, cache: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "kubelet").write_text("my kubelet")
    (mine / "kubelet").chmod(0o775)
    rest = Recipe(function="kitchen_of_tests:both")
    artifact = Artifact(
        name="k8s",
        version="1",
        members=("kubelet", "kubectl"),
        sources=(OwnDirectory(path=str(mine)), rest),
    )
    resolved = Store(cache).get(artifact, Silent())
    assert (resolved.path / "kubelet").read_text() == "my kubelet"
    assert (resolved.path / "kubelet").stat().st_mode & 0o777 == 0o755
    assert (resolved.path / "kubectl").read_text() == "theirs"
    kinds = {origin.member: origin.kind for origin in resolved.provenance}
    assert kinds == {"kubelet": "own directory", "kubectl": "recipe"}
    # What the user builds next must not change what is in the cache.
    (mine / "kubelet").write_text("my next kubelet")
    assert (resolved.path / "kubelet").read_text() == "my kubelet"
    assert (Store(cache).get(artifact, Silent()).path / "kubelet").read_text() == "my next kubelet"


def both(recipe: RecipeContext) -> None:
    (recipe.out / "kubectl").write_text("theirs")


def test_a_failed_source_says_why_and_the_last_failure_lists_all(
    tmp_path: Path, cache: Path
) -> None:
    sources = (
        OwnDirectory(path=str(tmp_path / "nowhere")),
        Release(url="http://example.invalid/tool", members={"tool": ""}, sha256="0" * 64),
        Recipe(function="kitchen_of_tests:fail"),
    )
    notes = Notes()
    artifact = Artifact(name="tool", version="7", members=("tool",), sources=sources)
    with pytest.raises(ArtifactError, match="tool 7") as caught:
        Store(cache).get(artifact, notes)
    for text in ("nowhere", "example.invalid/tool is not https", "exit code 3"):
        assert text in str(caught.value)
        assert any(text in note for note in notes.notes)
    assert "line 99" in caught.value.log
    assert "line 60" not in caught.value.log
    assert caught.value.hint
    assert not temporaries(cache)


def test_a_source_that_lacks_a_member_is_named(cache: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no source has out(.|\n)*kitchen_of_tests:nothing"):
        Store(cache).get(recipe("thing", "nothing"), Silent())


def test_a_recipe_is_told_where_to_look_and_the_cache_needs_no_place(
    cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("text")

    def at(place: str) -> Artifact:
        source = Recipe(
            function="kitchen_of_tests:copy",
            params={"digest": "of text"},
            places={"file": str(tmp_path / place)},
        )
        return Artifact(name="a", version="1", members=("out",), sources=(source,))

    calls.clear()
    lock = LockFile(path=tmp_path / "xk8s.lock", update=True)
    found = Store(cache, lock=lock).get(at("file"), Silent())
    (tmp_path / "file").unlink()
    assert Store(cache, lock=lock).get(at("moved"), Silent()) == found
    assert calls == [str(tmp_path / "file")]
    (given,) = found.provenance
    assert (given.kind, given.detail) == ("this machine", str(tmp_path / "file"))
    assert lock.read() == (), "the user's own, as it changes with every build, is not locked"


def test_the_error_of_an_only_recipe_is_the_error(cache: Path) -> None:
    with pytest.raises(BuildError, match="exit code 3") as caught:
        Store(cache).get(recipe("thing", "fail"), Silent())
    assert "line 99" in caught.value.log
    with pytest.raises(HostError, match="xk8s-no-such-program"):
        Store(cache).get(recipe("thing", "missing_program"), Silent())
    with pytest.raises(PluginError, match="kitchen_of_tests:absent"):
        Store(cache).get(recipe("thing", "absent"), Silent())


@pytest.mark.parametrize("function", ["full", "full_program"])
def test_full_disk_injected_at_os_level_says_where(cache: Path, function: str) -> None:
    """The real thing, on a tmpfs, is in test_layers_build (it needs root)."""
    with pytest.raises(HostError, match="MiB free") as caught:
        Store(cache).get(recipe("thing", function), Silent())
    assert str(cache) in caught.value.where
    assert "XK8S_CACHE" in caught.value.hint
    assert not temporaries(cache)
    assert not list((cache / "artifacts").iterdir())


def test_the_first_error_ends_the_other_work(tmp_path: Path, cache: Path) -> None:
    started = tmp_path / "started"
    slow = recipe("slow", "sleep", started=str(started))
    bad = recipe("bad", "fail_when_started", started=str(started))
    begin = time.monotonic()
    with pytest.raises(BuildError, match="burnt"):
        Store(cache).get_many([slow, bad], Silent())
    assert time.monotonic() - begin < 8
    wait_gone(int(started.read_text()))
    assert not [mark for mark in marked().values() if str(cache) in mark]
    assert not temporaries(cache)


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from xk8s.sources import Artifact, Recipe
from xk8s.build.artifacts.store import Store
from xk8s.progress import Silent
from xk8s.cli.signals import handle_signals
handle_signals()
def artifact(n):
    source = Recipe(function="slow_recipe:sleep", params={"started": f"{sys.argv[3]}{n}"})
    return Artifact(name=f"slow{n}", version="1", members=("out",), sources=(source,))
try:
    Store(Path(sys.argv[2])).get_many([artifact(n) for n in range(int(sys.argv[4]))], Silent())
except KeyboardInterrupt:
    sys.exit(130)
"""
RECIPE = """
def sleep(recipe):
    recipe.run(["sh", "-c", 'echo $$ > "$1"; sleep 600 & sleep 600', "sh",
                 recipe.params["started"]])
"""


@pytest.fixture
def other_run(tmp_path: Path, cache: Path):
    """Starts another xk8s that makes ``count`` artifacts for ten minutes."""
    (tmp_path / "slow_recipe.py").write_text(RECIPE)
    running = []

    def start(count: int) -> tuple[subprocess.Popen, list[int]]:
        started = tmp_path / "started"
        words = [sys.executable, "-c", SCRIPT, tmp_path, cache, started, str(count)]
        process = subprocess.Popen([str(word) for word in words])
        running.append(process)
        return process, [int(wait_for(Path(f"{started}{n}"))) for n in range(count)]

    yield start
    for process in running:
        process.kill()
        process.wait()
    end_leftovers(cache)


@pytest.mark.parametrize("count", [1, 3])
def test_ctrl_c_ends_programs_and_removes_temporaries(cache: Path, other_run, count: int) -> None:
    process, pids = other_run(count)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    for pid in pids:
        wait_gone(pid)
    assert not temporaries(cache)


def test_what_a_killed_run_left_is_cleaned_up(cache: Path, other_run) -> None:
    process, (pid,) = other_run(1)
    assert end_leftovers(cache) == []  # it holds its lock: alive
    assert temporaries(cache)
    process.kill()
    process.wait()
    assert f"{MARK}=" in Path(f"/proc/{pid}/environ").read_text()
    assert pid in end_leftovers(cache)
    wait_gone(pid)


def test_the_next_run_takes_over_from_a_killed_one(cache: Path, other_run, tmp_path: Path) -> None:
    process, (pid,) = other_run(1)
    process.kill()
    process.wait()
    (tmp_path / "slow_recipe.py").write_text(
        "def sleep(recipe): (recipe.out / 'out').write_text('done')"
    )
    (tmp_path / "started0").unlink()
    script = [sys.executable, "-c", SCRIPT, tmp_path, cache, tmp_path / "started", "1"]
    subprocess.run([str(word) for word in script], check=True, timeout=20)
    wait_gone(pid)
    assert not temporaries(cache)
    assert [resolved.name for resolved in Store(cache).list_cached()] == ["slow0"]


def test_two_at_once_make_it_once(cache: Path) -> None:
    calls.clear()
    artifact = recipe("thing", "write", text="x")
    found: list[Resolved] = []
    threads = [
        threading.Thread(target=lambda: found.append(Store(cache).get(artifact, Silent())))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == ["thing"]
    assert len({resolved.digest for resolved in found}) == 1


# --- lock file ---


def test_the_lock_file_holds_an_artifact_to_what_it_was(tmp_path: Path, cache: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("one")
    artifact = recipe("thing", "read", file=str(counter))
    path = tmp_path / "xk8s.lock"
    first = Store(cache, lock=LockFile(path)).get(artifact, Silent())
    (pin,) = LockFile(path).read()
    assert (pin.name, pin.key, pin.digest) == ("thing", first.key, first.digest)
    text = path.read_text()
    Store(cache, lock=LockFile(path)).get(artifact, Silent())
    assert path.read_text() == text

    counter.write_text("two")  # the same definition now gives something else
    with pytest.raises(ArtifactError, match="thing 1 differs from") as caught:
        Store(tmp_path / "empty", lock=LockFile(path)).get(artifact, Silent())
    assert "--update-lock" in caught.value.hint
    assert path.read_text() == text
    Store(tmp_path / "empty", lock=LockFile(path, update=True)).get(artifact, Silent())
    assert path.read_text() != text


def read(recipe: RecipeContext) -> None:
    (recipe.out / "out").write_text(Path(recipe.params["file"]).read_text())


def test_a_damaged_lock_file_is_named(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "xk8s.lock"
    for text in ("{", "[]", '{"version": 9, "artifacts": []}', '{"version": 1}'):
        path.write_text(text)
        with pytest.raises(ArtifactError, match=r"xk8s\.lock cannot be read"):
            LockFile(path).read()


def test_looking_up_makes_nothing(cache: Path) -> None:
    artifact = recipe("thing", "write")
    assert Store(cache).cached(artifact) is None
    Store(cache).get(artifact, Silent())
    assert Store(cache).cached(artifact) is not None


def test_a_relative_cache_works_from_where_it_was_named(
    tmp_path: Path, cache: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    resolved = Store(Path("relative")).get(recipe("thing", "elsewhere"), Silent())
    assert resolved.path.is_relative_to(tmp_path)
    assert (resolved.path / "out").read_text().strip() == "/"


def elsewhere(recipe: RecipeContext) -> None:
    recipe.run(["pwd"], cwd=Path("/"), stdout=recipe.out / "out")
