"""What a power loss or a bad disk did to the cache is noticed once, and made again unasked."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve
from xk8s.artifact_keys import artifact_key
from xk8s.build.artifacts.attempt import Resolved
from xk8s.build.artifacts.store import Store
from xk8s.build.layers import whole
from xk8s.build.layers.build import BuiltLayer, LayerStore
from xk8s.build.layers.erofs_write import ALIGNMENT
from xk8s.cli.app import run
from xk8s.cluster.snapshots.images import damaged
from xk8s.errors import ArtifactError
from xk8s.overlay import File, Layer, Take
from xk8s.progress import Silent
from xk8s.recipe import RecipeContext
from xk8s.sources import Artifact, Recipe
from xk8s.util import intact
from xk8s.util.files import file_digest, tree_digest

from tests.notes import Notes


@pytest.fixture
def cache(own_places: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(sys.modules, "kitchen_of_damage", sys.modules[__name__])
    return own_places / "cache"


@pytest.fixture
def restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Starts the machine again, as far as its boot id says."""
    boot = tmp_path / "boot_id"
    boot.write_text("the first\n")
    monkeypatch.setattr(intact, "BOOT_ID", boot)

    def start() -> None:
        boot.write_text(boot.read_text().strip() + " and again\n")

    return start


made: list[str] = []


def cook(recipe: RecipeContext) -> None:
    made.append(recipe.name)
    if recipe.name == "gone":
        assert made.count("gone") == 1, "its source is gone"
    (recipe.out / "program").write_bytes(b"#!" + bytes(range(256)) * 40)
    (recipe.out / "image").write_bytes(b"erofs" * 9000)
    os.truncate(recipe.out / "image", ALIGNMENT)
    (recipe.out / "link").symlink_to("program")


def artifact(name: str = "tool", *inputs: Artifact) -> Artifact:
    source = Recipe(function="kitchen_of_damage:cook", inputs=inputs)
    return Artifact(name=name, version="1", members=("program", "image"), sources=(source,))


# --- what happens to files --------------------------------------------------------------------


def flip(path: Path) -> None:
    """One bit, as a bad disk does it: size and time stay."""
    status, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x10
    _overwrite(path, data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def zeros(path: Path) -> None:
    """As a file system leaves it that had the size on its disk, and not the data."""
    status = path.stat()
    _overwrite(path, bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def cut(path: Path) -> None:
    status = path.stat()
    os.truncate(path, status.st_size // 2)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def empty(path: Path) -> None:
    os.truncate(path, 0)


def remove(path: Path) -> None:
    path.unlink()


def _overwrite(path: Path, data: bytes | bytearray) -> None:
    with path.open("r+b") as file:  # the same inode, with all its names
        file.write(data)


DAMAGES = [flip, zeros, cut, empty, remove]


# --- artifacts --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tree/program", "provenance.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_artifact_is_made_again_with_one_line(
    cache: Path, restart: Callable[[], None], damage: Callable[[Path], None], name: str
) -> None:
    made.clear()
    first = Store(cache).get(artifact(), Silent())
    damage(first.path.parent / name)
    restart()
    notes = Notes()
    again = Store(cache).get(artifact(), notes)
    assert made == ["tool", "tool"]
    assert again == first
    assert tree_digest(again.path) == first.digest
    (note,) = notes.notes
    assert note.startswith("tool: what the cache has of it is made again: ")
    assert Store(cache).get(artifact(), notes) == first
    assert len(notes.notes) == 1
    assert len(made) == 2


@pytest.mark.parametrize("damage", [cut, empty, remove])
def test_what_was_cut_or_removed_is_noticed_without_a_start_of_the_machine(
    cache: Path, damage: Callable[[Path], None]
) -> None:
    made.clear()
    resolved = Store(cache).get(artifact(), Silent())
    damage(resolved.path / "program")
    assert Store(cache).get(artifact(), Silent()).digest == tree_digest(resolved.path)
    assert made == ["tool", "tool"]


def test_inputs_of_a_damaged_artifact_are_made_again_when_they_are_needed(
    cache: Path, restart: Callable[[], None]
) -> None:
    made.clear()
    inner = artifact("inner")
    outer = artifact("outer", inner)
    store = Store(cache)
    store.get(outer, Silent())
    for key in map(artifact_key, (inner, outer)):
        flip(store.place(key) / "program")
    restart()
    Store(cache).get(outer, Silent())
    assert made == ["inner", "outer"] * 2


def test_one_that_cannot_be_made_again_is_an_error_and_never_used(
    cache: Path, restart: Callable[[], None]
) -> None:
    made.clear()
    resolved = Store(cache).get(artifact("gone"), Silent())
    flip(resolved.path / "program")
    restart()
    for _ in range(2):
        with pytest.raises((ArtifactError, AssertionError), match="its source is gone"):
            Store(cache).get(artifact("gone"), Silent())
        with pytest.raises((ArtifactError, AssertionError), match="its source is gone"):
            Store(cache).get_many([artifact("gone"), artifact()], Silent())


def test_all_is_read_once_after_a_start_and_never_in_between(
    cache: Path, restart: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = {artifact_key(artifact()): Store(cache).get(artifact(), Silent())}
    built = layer_of(cache, resolved)
    read: list[Path] = []

    def count(of: Callable[[Path], str]) -> Callable[[Path], str]:
        return lambda path: (read.append(path), of(path))[1]

    monkeypatch.setattr("xk8s.build.artifacts.entry.tree_digest", count(tree_digest))
    monkeypatch.setattr("xk8s.build.layers.whole.content_sum", count(whole.content_sum))
    for starts in range(3):
        for _ in range(3):
            assert Store(cache).get(artifact(), Silent()) in resolved.values()
            assert layer_of(cache, resolved) == built
        assert len(read) == 2 * starts, "what has just been made is not read again"
        restart()


def test_a_cache_that_cannot_be_marked_is_read_once_by_each_command(
    cache: Path, restart: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = Store(cache).get(artifact(), Silent())
    restart()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(intact, "write_atomic", refuse)
    assert Store(cache).get(artifact(), Silent()) == resolved
    assert intact.is_compared(resolved.path.parent / intact.MARK, [resolved.path])


def test_a_damaged_entry_stops_no_listing(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    broken = Store(cache).get(artifact("broken"), Silent())
    Store(cache).get(artifact(), Silent())
    (broken.path.parent / "provenance.json").write_text("{")
    assert run(["artifacts"]) == 0
    assert "tool 1" in capfd.readouterr()[0]
    assert run(["cache", "--all"]) == 0
    assert "(damaged)" in capfd.readouterr()[0]


# --- layers -----------------------------------------------------------------------------------


def layer_of(
    cache: Path, resolved: dict[str, Resolved], progress: Silent | None = None
) -> BuiltLayer:
    take = Take(artifact=artifact(), member="program", path="/usr/bin/program")
    layer = Layer(name="l", entries=(take, File(path="/etc/motd", data=b"hello\n")))
    return LayerStore(cache).build(layer, resolved, progress)


def linked_layer(
    cache: Path, resolved: dict[str, Resolved], progress: Silent | None = None
) -> BuiltLayer:
    """The artifact's image itself, as the base system's is."""
    layer = Layer(name="base", image=Take(artifact=artifact(), member="image", path="/"))
    return LayerStore(cache).build(layer, resolved, progress)


@pytest.mark.parametrize("suffix", [".erofs", ".json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_layer_is_made_again_with_one_line(
    cache: Path, restart: Callable[[], None], damage: Callable[[Path], None], suffix: str
) -> None:
    resolved = {artifact_key(artifact()): Store(cache).get(artifact(), Silent())}
    built = layer_of(cache, resolved)
    digest = file_digest(built.path)
    damage(built.path.with_suffix(suffix))
    restart()
    notes = Notes()
    assert layer_of(cache, resolved, notes) == built
    assert file_digest(built.path) == digest
    if (damage, suffix) != (remove, ".erofs"):  # who lacks it makes it, as the first time
        (note,) = notes.notes
        assert note.startswith("layer l: its image in the cache is made again: ")
    layer_of(cache, resolved, notes)
    assert len(notes.notes) <= 1


@pytest.mark.parametrize("damage", [flip, zeros, cut])
def test_a_layer_that_is_a_link_to_a_damaged_artifact_goes_with_it(
    cache: Path, restart: Callable[[], None], damage: Callable[[Path], None]
) -> None:
    """Found when the artifact was: the layer's own mark, of this start, must not save it."""
    artifacts = Store(cache)
    resolved = {artifact_key(artifact()): artifacts.get(artifact(), Silent())}
    built = linked_layer(cache, resolved)
    good = file_digest(built.path)
    member = artifacts.place(artifact_key(artifact())) / "image"
    assert built.path.samefile(member)
    restart()
    linked_layer(cache, resolved)  # compared, while the artifact is not yet
    damage(member)
    resolved = {artifact_key(artifact()): Store(cache).get(artifact(), Silent())}
    notes = Notes()
    again = linked_layer(cache, resolved, notes)
    assert file_digest(again.path) == good
    assert again.path.samefile(member)
    assert len(notes.notes) == 1


def test_an_image_of_an_older_version_without_a_sum_is_made_again(cache: Path) -> None:
    built = LayerStore(cache).build(Layer(name="l", entries=(File(path="/a", data=b"a"),)), {})
    whole.description(built.path).write_text('{"name": "l", "size": 1}')
    notes = Notes()
    layer = Layer(name="l", entries=(File(path="/a", data=b"a"),))
    assert LayerStore(cache).build(layer, {}, notes) == built
    assert "has no checksum" in notes.notes[0]
    assert whole.damage(built.path) is None


def test_a_user_of_another_layer_is_not_disturbed(cache: Path, restart: Callable[[], None]) -> None:
    """An image that somebody holds is replaced under its name: open files stay as they are."""
    store = LayerStore(cache)
    layer = Layer(name="l", entries=(File(path="/a", data=b"a" * 5000),))
    built = store.build(layer, {})
    with built.path.open("rb") as open_file:
        before = os.fstat(open_file.fileno()).st_ino
        flip(built.path)
        restart()
        assert evolve(store.build(layer, {})) == built
        assert built.path.stat().st_ino != before


# --- descriptions -----------------------------------------------------------------------------


def test_a_sealed_document_is_read_and_a_changed_one_is_not() -> None:
    document = {"name": "ü", "list": [1, 2.5, None], "deep": {"a": True}}
    text = intact.seal(document)
    assert intact.unseal(text) == document
    assert intact.unseal('{"older": 1}') == {"older": 1}
    for wrong in (text[:-5], "", "[]", "\0" * 40, text.replace("2.5", "2.6"), "5"):
        with pytest.raises(ValueError, match=r"JSON|descri|char|value"):
            intact.unseal(wrong)


# --- what the VMs of a snapshot had -----------------------------------------------------------


@pytest.mark.parametrize("part", ["image", "kernel"])
def test_a_snapshot_whose_image_or_kernel_is_damaged_is_not_restored(
    cache: Path, restart: Callable[[], None], part: str
) -> None:
    """Its own layers need not be those of the plan, which are compared when it is built."""
    one = artifact()
    resolved = {artifact_key(one): Store(cache).get(one, Silent())}
    built = layer_of(cache, resolved)
    kernel = (resolved[artifact_key(one)].path / "program").relative_to(cache)
    disk = SimpleNamespace(path=built.path, layer="l", key=built.key)
    boot: Any = SimpleNamespace(
        kernel=kernel, initrd=kernel, nodes=(SimpleNamespace(disks=(disk,)),)
    )
    restart()
    assert damaged(boot) is None
    flip({"image": built.path, "kernel": cache / kernel}[part])
    restart()
    assert "is damaged" in str(damaged(boot))
