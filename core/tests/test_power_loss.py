"""A power loss as it is: the disk is copied while the cache is on it, and the copy is mounted.

What the kernel had not written by then is not on the copy. ext4 writes names after five seconds and
data when it likes: without a flush, files of zeros had their names.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from xk8s.artifact_keys import artifact_key
from xk8s.build.artifacts.attempt import Resolved
from xk8s.build.artifacts.store import Store
from xk8s.build.layers.build import LayerStore
from xk8s.build.layers.erofs_write import ALIGNMENT
from xk8s.overlay import Layer, Take
from xk8s.progress import Silent
from xk8s.recipe import RecipeContext
from xk8s.sources import Artifact, Recipe
from xk8s.util import intact
from xk8s.util.files import file_digest, tree_digest

from tests.mounts import ext4, make_ext4
from tests.notes import Notes

MIB = 1 << 20


def content(number: int) -> bytes:
    return bytes((number + index) % 251 for index in range(1000)) * 4000


def cook(recipe: RecipeContext) -> None:
    number = int(recipe.params["number"])
    (recipe.out / "program").write_bytes(content(number))
    (recipe.out / "image").write_bytes(content(number + 1))
    os.truncate(recipe.out / "image", 2 * ALIGNMENT)


def artifact(number: int) -> Artifact:
    source = Recipe(function="kitchen_of_power:cook", params={"number": str(number)})
    members = ("program", "image")
    return Artifact(name=f"tool-{number}", version="1", members=members, sources=(source,))


NUMBERS = range(3)


def build(cache: Path, progress: Silent | None = None) -> dict[Path, str]:
    """All artifacts and two layers of each, one a link; digests of the images by path below."""
    progress = progress or Silent()
    found = {}
    for number in NUMBERS:
        one = artifact(number)
        resolved: dict[str, Resolved] = {artifact_key(one): Store(cache).get(one, progress)}
        take = Take(artifact=one, member="program", path="/usr/bin/tool")
        layers = (
            Layer(name=f"layer-{number}", entries=(take,)),
            Layer(name=f"base-{number}", image=Take(artifact=one, member="image", path="/")),
        )
        for layer in layers:
            built = LayerStore(cache).build(layer, resolved, progress)
            found[built.path.relative_to(cache)] = file_digest(built.path)
    return found


@pytest.fixture
def kitchen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(sys.modules, "kitchen_of_power", sys.modules[__name__])
    return tmp_path


def restart(directory: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (directory / "boot_id").write_text(name)
    monkeypatch.setattr(intact, "BOOT_ID", directory / "boot_id")


def whole(cache: Path) -> dict[Path, str]:
    """What the next run makes of the cache; each artifact agrees with its own digest."""
    found = build(cache)
    for resolved in Store(cache).list_cached():
        assert tree_digest(resolved.path) == resolved.digest
    return found


def test_a_power_loss_at_any_moment_leaves_a_cache_that_the_next_run_mends(
    kitchen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0 to 9 seconds after the build; and in its middle."""
    disk = kitchen / "disk"
    make_ext4(disk, 160 * MIB)
    copies: list[Path] = []

    def unplug() -> None:
        copies.append(kitchen / f"copy-{len(copies)}")
        copy_disk(disk, copies[-1])

    class Unplugging(Silent):
        def item(self, *_: object, **__: object) -> None:
            unplug()

    restart(kitchen, monkeypatch, "before")
    with ext4(disk, kitchen / "mounted") as mounted:
        first = build(mounted / "cache", Unplugging())
        during = len(copies)
        start = time.monotonic()
        for seconds in (0, 2, 6, 9):
            time.sleep(max(0.0, start + seconds - time.monotonic()))
            unplug()
    assert during > 2 * len(NUMBERS)
    for number, copy in enumerate(copies):
        restart(kitchen, monkeypatch, f"after {number}")
        with ext4(copy, kitchen / "again") as mounted:
            notes = Notes()
            assert build(mounted / "cache", notes) == first
            assert whole(mounted / "cache") == first
            if number >= during:
                assert notes.notes == [], "all that had its name was on the disk"
        copy.unlink()


@pytest.mark.parametrize("flushed", ["nothing", "descriptions"])
def test_what_a_power_loss_did_to_an_older_cache_is_mended(
    kitchen: Path, monkeypatch: pytest.MonkeyPatch, flushed: str
) -> None:
    """As it was found. All data that the kernel held back is lost, and the names are there; where
    the small files were flushed, only the sums can tell.
    """
    disk, copy = kitchen / "disk", kitchen / "copy"
    make_ext4(disk, 160 * MIB)
    restart(kitchen, monkeypatch, "before")
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if flushed == "descriptions" and os.fstat(descriptor).st_size < 64 << 10:
            real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with ext4(disk, kitchen / "mounted", "commit=1") as mounted:
        first = build(mounted / "cache")
        until = time.monotonic() + 60
        while not _names_without_data(disk, copy, kitchen, len(first)):
            if time.monotonic() > until:
                pytest.skip("this kernel wrote the data with the names")
            time.sleep(0.5)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "kitchen_of_power", sys.modules[__name__])
    restart(kitchen, monkeypatch, "after")
    with ext4(copy, kitchen / "again") as mounted:
        notes = Notes()
        assert build(mounted / "cache", notes) == first
        assert notes.notes, "damaged things are named"
        assert all(" made again: " in note for note in notes.notes)
        assert build(mounted / "cache", again := Notes()) == first
        assert again.notes == []


def copy_disk(disk: Path, copy: Path) -> None:
    subprocess.run(["cp", "--sparse=always", disk, copy], check=True)


def _names_without_data(disk: Path, copy: Path, directory: Path, count: int) -> bool:
    """Copy the disk; whether all images have their names there, and one of them no data."""
    copy_disk(disk, copy)
    with ext4(copy, directory / "look") as mounted:
        images = list((mounted / "cache" / "layers").glob("*.erofs"))
        return len(images) == count and any(path.stat().st_blocks == 0 for path in images)
