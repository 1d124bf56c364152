"""Writing files so that readers, other writers and a crash find old or new content."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from xk8s.util.files import write_atomic


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
