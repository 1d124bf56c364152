"""Writing files so that readers, other writers and a crash find old or new content."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from xk8s.util.files import put_in_place, write_atomic


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
