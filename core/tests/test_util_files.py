"""Writing files so that readers, other writers and a crash find old or new content."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from xk8s.util import files
from xk8s.util.files import put_in_place, remove_tree, write_atomic


def test_a_file_is_replaced_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_atomic(path, "old\n", mode=0o600)
    write_atomic(path, b"new\n", mode=0o640)
    assert path.read_text() == "new\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_two_writers_never_fail_and_leave_one_whole_content(tmp_path: Path) -> None:
    """With one fixed temporary name, 89 of 800 such writes failed."""
    path = tmp_path / "state.json"
    contents = {"a" * 5000, "b" * 5000}
    failures: list[BaseException] = []

    def write(content: str) -> None:
        try:
            for _ in range(100):
                write_atomic(path, content)
                assert path.read_text() in contents
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in sorted(contents)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_a_write_that_fails_leaves_the_old_content_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.json"
    write_atomic(path, "old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("directory", [False, True])
def test_what_is_put_in_place_is_on_the_disk_first(
    tmp_path: Path, directory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it is flushed before it has its name; what cannot be flushed replaces nothing."""

    def make(name: str, text: str) -> Path:
        path = tmp_path / name
        if directory:
            (path / "in").mkdir(parents=True)
            (path / "in/file").write_text(text)
            (path / "link").symlink_to("/nowhere")
            return path
        path.write_text(text)
        return path

    def content(path: Path) -> str:
        return (path / "in/file" if directory else path).read_text()

    target, work = make("target", "old"), make("work", "new")
    synced: list[str] = []
    real = os.fsync

    def record(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append(str(path.relative_to(tmp_path)))
        assert path == tmp_path or content(target) == "old"
        real(descriptor)

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "bad disk")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="bad disk"):
            put_in_place(work, target)
    assert (content(target), content(work)) == ("old", "new")
    monkeypatch.setattr(os, "fsync", record)
    put_in_place(work, target)
    assert content(target) == "new"
    assert not work.exists()
    assert synced == (["work/in/file", "work/in", "work", "."] if directory else ["work", "."])


@pytest.fixture(params=["in one step", "in three"])
def exchange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a file system can: some cannot let two names change places."""
    if request.param == "in three":
        monkeypatch.setattr(files, "_renameat2", lambda *_: False)


def directories(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("work", "target"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    return tmp_path / "work", tmp_path / "target"


@pytest.mark.usefixtures("exchange")
def test_an_earlier_directory_goes_when_its_successor_has_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named snapshot went first: who was killed then had neither."""
    work, target = directories(tmp_path)
    removed: list[str] = []

    def remove(path: Path) -> None:
        if path.exists():
            assert (target / "file").read_text() == "work"
            removed.append((path / "file").read_text())
        remove_tree(path)

    monkeypatch.setattr(files, "remove_tree", remove)
    put_in_place(work, target)
    assert removed == ["target"]
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


@pytest.mark.usefixtures("exchange")
def test_what_cannot_be_removed_leaves_the_new_one_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, target = directories(tmp_path)

    def refuse(path: Path) -> None:
        if path.exists():
            raise OSError(errno.EIO, "bad disk")

    monkeypatch.setattr(files, "remove_tree", refuse)
    put_in_place(work, target)
    assert (target / "file").read_text() == "work"


@pytest.mark.usefixtures("exchange")
def test_a_new_one_that_gets_no_name_leaves_the_earlier_one(tmp_path: Path) -> None:
    _, target = directories(tmp_path)
    with pytest.raises(OSError, match="No such file"):
        put_in_place(tmp_path / "missing", target)
    with pytest.raises(OSError, match="No such file"):
        files._exchange(tmp_path / "missing", target)
    assert (target / "file").read_text() == "target"
    assert {path.name for path in tmp_path.iterdir()} == {"work", "target"}
