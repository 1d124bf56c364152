"""Snapshots of test clusters go from one run to the next (tests/cluster/kept.py)."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.cluster.kept import UNUSED_DAYS, Kept, code


def saved(state: Path, name: str, label: str, text: str = "memory") -> Path:
    """A snapshot as far as keeping it is concerned."""
    directory = state / "snapshots" / name / label
    directory.mkdir(parents=True)
    (directory / "vm-001.ram").write_bytes(text.encode() + bytes(2 << 20))
    (directory / "meta.json").write_text(label)
    return directory


def test_the_next_run_has_what_the_last_one_saved(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept")
    first = saved(tmp_path / "1", "ipv6", "auto-1")
    kept.keep("ipv6", tmp_path / "1")
    kept.bring("ipv6", tmp_path / "2")
    brought = tmp_path / "2/snapshots/ipv6/auto-1"
    for name in ("vm-001.ram", "meta.json"):
        assert (brought / name).read_bytes() == (first / name).read_bytes()
        # `up` compares the times of what it restores.
        assert (brought / name).stat().st_mtime_ns == (first / name).stat().st_mtime_ns
    # What a run writes down beside the memory is its own affair.
    (brought / "meta.json").write_text("used")
    kept.bring("ipv6", tmp_path / "3")
    assert (tmp_path / "3/snapshots/ipv6/auto-1/meta.json").read_text() == "auto-1"


def test_what_the_run_has_itself_stays(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept")
    saved(tmp_path / "1", "ipv6", "auto-1")
    kept.keep("ipv6", tmp_path / "1")
    saved(tmp_path / "2", "ipv6", "auto-2")
    kept.bring("ipv6", tmp_path / "2")
    assert os.listdir(tmp_path / "2/snapshots/ipv6") == ["auto-2"]  # noqa: PTH208


def test_a_new_boot_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept")
    for state, label in (("1", "auto-1"), ("2", "auto-2")):
        saved(tmp_path / state, "ipv6", label)
        kept.keep("ipv6", tmp_path / state)
    kept.bring("ipv6", tmp_path / "3")
    assert [path.name for path in (tmp_path / "3/snapshots/ipv6").iterdir()] == ["auto-2"]


def test_nothing_is_restored_that_other_code_booted(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept")
    saved(tmp_path / "1", "ipv6", "auto-1")
    kept.keep("ipv6", tmp_path / "1")
    (tmp_path / f"kept/ipv6@{code()}").rename(tmp_path / "kept/ipv6@0123")
    kept.bring("ipv6", tmp_path / "2")
    assert not (tmp_path / "2").exists()


def test_the_code_that_boots_is_told_from_other_code(tmp_path: Path) -> None:
    digests = set()
    for name, text in (("a", "1"), ("a", "2"), ("b", "2")):
        core = tmp_path / f"{name}{text}"
        for folder, content in (("machine/qemu", text), ("cluster", "same"), ("cli", name)):
            (core / folder).mkdir(parents=True)
            (core / folder / "x.py").write_text(content)
        digests.add(code(core))
    assert len(digests) == 2


def test_what_was_not_used_for_a_week_goes(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept")
    saved(tmp_path / "1", "ipv6", "auto-1")
    kept.keep("ipv6", tmp_path / "1")
    long_ago = time.time() - UNUSED_DAYS * 86400 - 60
    os.utime(tmp_path / f"kept/ipv6@{code()}", (long_ago, long_ago))
    kept.bring("other", tmp_path / "2")
    assert list((tmp_path / "kept").glob("*@*")) == []
