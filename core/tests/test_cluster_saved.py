"""Snapshot clusters on disk: copies without holes, damage that is noticed, and what there is."""

from __future__ import annotations

import filecmp
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from xk8s.cli.app import run
from xk8s.cli.session import CliSession
from xk8s.cluster.snapshots import store
from xk8s.cluster.snapshots.store import Snapshot
from xk8s.cluster.state.record import locked
from xk8s.errors import StateError, UsageError
from xk8s.util import intact
from xk8s.util.files import flush
from xk8s.util.sparse import content_sum, sparse_copy

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@pytest.fixture(autouse=True)
def own_snapshots(own_places: Path) -> None:
    assert store.directory("demo", "auto").is_relative_to(own_places)


# --- sparse_copy ------------------------------------------------------------------------


def make_sparse(path: Path, size: int, *pieces: tuple[int, bytes]) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)
    return path


def disk(path: Path) -> int:
    return path.stat().st_blocks * 512


@given(
    size=st.integers(1, 4 * MIB),
    places=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 200 * KIB)), max_size=5),
    seed=st.integers(0, 99),
)
def test_copy_has_the_content_and_the_holes(
    size: int, places: list[tuple[float, int]], seed: int
) -> None:
    pieces = []
    for where, length in places:
        offset = int(where * (size - 1))
        pieces.append((offset, random.Random(seed).randbytes(min(length, size - offset))))
    with tempfile.TemporaryDirectory() as name:
        source = make_sparse(Path(name, "source"), size, *pieces)
        target = Path(name, "target")
        total = sparse_copy(source, target)
        assert filecmp.cmp(source, target, shallow=False)
        assert disk(target) <= disk(source) + 64 * KIB * (1 + len(places))
        assert total == content_sum(source) == content_sum(target)
        # Zeros are the same as holes.
        data = source.read_bytes()
        source.write_bytes(data)
        assert content_sum(source) == total
        if any(data):
            first = next(index for index, byte in enumerate(data) if byte)
            source.write_bytes(data[:first] + bytes((data[first] ^ 1,)) + data[first + 1 :])
            assert content_sum(source) != total
            source.write_bytes(b"\0" + data)
            assert content_sum(source) != total


def test_copy_beyond_four_gib_between_file_systems(tmp_path: Path) -> None:
    # RAM lives on a tmpfs, snapshots on a disk.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        last = 5 * GIB - 1
        pieces = (MIB, b"low" * 5000), (4 * GIB + 7, b"high"), (last, b"!")
        source = make_sparse(Path(name, "source"), last + 1, *pieces)
        target = tmp_path / "target"
        sparse_copy(source, target)
        assert target.stat().st_size == last + 1
        assert disk(target) < MIB
        with target.open("rb") as file:
            for offset, data in pieces:
                file.seek(offset)
                assert file.read(len(data)) == data


@pytest.mark.parametrize("size", [0, 1, 8 * GIB])
def test_copy_of_nothing_but_a_hole(tmp_path: Path, size: int) -> None:
    target = tmp_path / "target"
    sparse_copy(make_sparse(tmp_path / "source", size), target)
    assert target.stat().st_size == size
    assert disk(target) <= 64 * KIB


def test_copy_is_for_this_user_alone(tmp_path: Path) -> None:
    source = make_sparse(tmp_path / "source", 10, (0, b"secret"))
    source.chmod(0o644)
    old = os.umask(0)
    try:
        sparse_copy(source, tmp_path / "target")
    finally:
        os.umask(old)
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o600


def test_zeros_become_holes(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(4 * MIB) + b"memory" + bytes(4 * MIB))
    sparse_copy(source, target)
    assert filecmp.cmp(source, target, shallow=False)
    assert disk(target) <= 64 * KIB


def test_copy_never_writes_into_an_existing_file(tmp_path: Path) -> None:
    source = make_sparse(tmp_path / "source", 10, (0, b"secret"))
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("mine")
    link.symlink_to(tmp_path / "elsewhere")
    for taken in (target, link):
        with pytest.raises(FileExistsError):
            sparse_copy(source, taken)
    assert target.read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


# --- what is saved ----------------------------------------------------------------------


def make(cluster: str = "demo", label: str = "auto", *, at: Path | None = None) -> Snapshot:
    """A snapshot as `xk8s.cluster.snapshots.save` leaves it, with little in it."""
    where = at or store.directory(cluster, label)
    (where / "nodes").mkdir(parents=True)
    (where / "nodes" / "vm-001.erofs").write_bytes(b"layer")
    make_sparse(where / "vm-001.ram", 3 * MIB, (MIB, b"memory"))
    (where / "vm-001.state").write_bytes(b"devices")
    (where / "vm-002.state").write_bytes(b"devices and memory")
    files, states, sums = store.describe(where)
    sums["vm-001.ram"] = content_sum(where / "vm-001.ram")
    value = Snapshot(
        cluster=cluster,
        label=label,
        key="k",
        overlays=("kubernetes", "etcd"),
        nodes=("vm-001", "vm-002"),
        created=1.5,
        files=files,
        states=states,
        sums=sums,
    )
    store.write(value, where)
    return value


def test_what_was_written_is_read() -> None:
    made = make()
    assert store.read("demo", "auto") == made
    assert store.find("demo", "auto") == made
    assert store.problem(made, "k") is None
    assert sorted(made.files) == ["vm-001.ram", "vm-001.state", "vm-002.state"]
    assert sorted(made.states) == ["vm-001.state", "vm-002.state"]
    assert made.ram("vm-001") == made.directory / "vm-001.ram"
    assert made.ram("vm-002") is None
    assert made.state("vm-002").read_bytes() == b"devices and memory"
    assert 0 < made.size < MIB
    assert json.loads(json.dumps(store.as_data(made)))["problem"] is None
    assert (made.directory / "meta.json").stat().st_mode & 0o777 == 0o600


def test_links_of_a_local_directory_count_as_links() -> None:
    made = make()
    before = made.size
    (made.directory / "local" / "0").mkdir(parents=True)
    (made.directory / "local" / "0" / "link").symlink_to("/no/such/file")
    (made.directory / "local" / "0" / "long").symlink_to("x" * 2000)
    (made.directory / "local" / "0" / "dir").symlink_to("/usr")
    assert before < made.size < before + 100 * KIB
    assert json.loads(json.dumps(store.as_data(made)))["bytes"] == made.size


def test_a_state_with_all_the_memory_is_not_hashed(tmp_path: Path) -> None:
    make_sparse(tmp_path / "vm-001.state", 64 * MIB)
    make_sparse(tmp_path / "vm-002.state", 64 * MIB - 1)
    files, states, _ = store.describe(tmp_path)
    assert sorted(files) == ["vm-001.state", "vm-002.state"]
    assert list(states) == ["vm-002.state"]


def shorten(path: Path) -> None:
    status = path.stat()
    os.truncate(path, status.st_size - 1)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def touch(path: Path) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))


def flip(path: Path) -> None:
    """What a bad disk does: other content, same size and time."""
    status, data = path.stat(), path.read_bytes()
    path.write_bytes(bytes((data[0] ^ 1,)) + data[1:])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    ("damage", "name", "reason"),
    [
        (Path.unlink, "vm-001.ram", "vm-001.ram is missing"),
        (Path.unlink, "vm-002.state", "vm-002.state is missing"),
        (shorten, "vm-001.ram", "vm-001.ram was changed"),
        (touch, "vm-001.ram", "vm-001.ram was changed"),
        (touch, "vm-001.state", "vm-001.state was changed"),
        (flip, "vm-002.state", "vm-002.state is damaged"),
    ],
)
def test_damage_has_its_reason(damage: Callable[[Path], None], name: str, reason: str) -> None:
    made = make()
    damage(made.directory / name)
    assert store.problem(made, "k") == reason
    assert store.as_data(made)["problem"] == reason


def test_a_bad_disk_is_found_out_at_the_first_restore_after_a_start_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make()
    assert store.verified(made)
    assert store.verify(made) is None
    boot = tmp_path / "boot_id"
    boot.write_text("another\n")
    monkeypatch.setattr(intact, "BOOT_ID", boot)
    assert not store.verified(made)
    assert store.verify(made) is None
    assert store.verified(made)
    assert store.problem(made, "k") is None  # what was added is not taken for a change
    boot.write_text("a third\n")
    flip(made.directory / "vm-001.ram")
    assert store.problem(made, "k") is None
    assert store.verify(made) == "vm-001.ram is damaged"
    assert not store.verified(made)
    (made.directory / "vm-001.ram").unlink()
    assert store.verify(made) == "vm-001.ram is missing"


@pytest.mark.parametrize("name", ["nodes/vm-001.erofs", "pki/ca.key", "boot.json", "now.json"])
@pytest.mark.parametrize("damage", [flip, Path.unlink])
def test_every_file_of_a_snapshot_is_compared(
    name: str, damage: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the sums were of memory and devices alone: a node's own layer of zeros was restored."""
    where = store.directory("demo", "auto")
    (where / "pki").mkdir(parents=True)
    for path in (where / "pki" / "ca.key", where / "boot.json", where / "now.json"):
        path.write_text(path.name)
    made = make()
    assert store.verify(made) is None
    boot = tmp_path / "boot_id"
    boot.write_text("another\n")
    monkeypatch.setattr(intact, "BOOT_ID", boot)
    damage(made.directory / name)
    assert name.partition("/")[0] in str(store.verify(made))
    assert not store.verified(made)


def test_a_description_with_a_changed_letter_is_no_snapshot() -> None:
    made = make()
    path = made.directory / "meta.json"
    path.write_text(path.read_text().replace("kubernetes", "kubernetez"))
    assert store.read("demo", "auto") is None


def test_a_snapshot_with_links_that_lead_nowhere_is_flushed() -> None:
    made = make()
    (made.directory / "local" / "0").mkdir(parents=True)
    (made.directory / "local" / "0" / "link").symlink_to("/no/such/file")
    flush(made.directory)
    assert store.problem(made, "k") is None


def test_one_that_does_not_fit_has_its_reason() -> None:
    made = make()
    assert "QEMU" in str(store.problem(made, "another"))
    assert store.problem(made) is None
    assert "version" in str(store.problem(evolve(made, format=0), "k"))


# --- what there is ----------------------------------------------------------------------


def test_what_a_killed_save_left_is_no_snapshot() -> None:
    assert store.list_snapshots() == ()
    made = make("demo", "good")
    root = made.directory.parent.parent
    (root / "demo" / "half").mkdir()
    (root / "demo" / "half" / "vm-001.ram").write_bytes(b"x")
    (root / "demo" / "auto.new").mkdir()
    make("demo", "late", at=root / "demo" / "late.new")  # all but its last step, the rename
    (root / "demo" / "stray").write_text("a file")
    (root / "stray").write_text("a file")
    assert store.list_snapshots() == (made,)
    assert store.read("demo", "half") is None
    assert store.read("demo", "late") is None


@pytest.mark.parametrize("text", ["", "{", "3", "null", "[]", '"a"', "{}", '{"format": 1}', "\0"])
def test_unreadable_description_is_no_snapshot(text: str) -> None:
    made = make()
    (made.directory / "meta.json").write_text(text)
    assert store.read("demo", "auto") is None
    assert store.list_snapshots() == ()
    (made.directory / "meta.json").write_bytes(b"\xff\xfe")
    assert store.list_snapshots() == ()


def test_description_that_lacks_a_field_is_no_snapshot() -> None:
    made = make()
    path = made.directory / "meta.json"
    whole = json.loads(path.read_text())
    del whole["sum"]  # which would not fit either
    for name in set(whole) - {"format", "layers", "machine", "digest", "sums"}:
        path.write_text(json.dumps({key: value for key, value in whole.items() if key != name}))
        assert store.read("demo", "auto") is None, name


def test_one_under_another_name_is_not_taken_for_it() -> None:
    made = make("demo", "auto")
    shutil.copytree(made.directory, made.directory.with_name("copy"))
    assert store.read("demo", "copy") is None
    assert store.list_snapshots() == (made,)


def test_one_that_is_not_there_names_those_that_are() -> None:
    make("demo", "before-upgrade")
    make("demo", "auto")
    make("other", "secret")
    with pytest.raises(StateError, match="no snapshot 'before-upgrad'") as caught:
        store.find("demo", "before-upgrad")
    assert "did you mean 'before-upgrade'" in caught.value.hint
    assert "there are: auto, before-upgrade" in caught.value.hint
    assert "secret" not in caught.value.hint
    with pytest.raises(StateError) as caught:
        store.find("third", "auto")
    assert "there are: none" in caught.value.hint


@pytest.mark.parametrize("name", ["..", "a/b", "", "auto.new"])
def test_label_stays_in_its_directory(name: str) -> None:
    with pytest.raises(UsageError):
        store.read("demo", name)
    with pytest.raises(UsageError):
        store.find(name, "auto")


def test_removed_one_is_gone_and_its_open_files_stay() -> None:
    first, second = make("demo", "a"), make("demo", "b")
    assert store.list_snapshots() == (first, second)
    with (first.directory / "vm-001.ram").open("rb") as ram:
        store.remove(first)
        assert store.list_snapshots() == (second,)
        assert not first.directory.exists()
        ram.seek(MIB)
        assert ram.read(6) == b"memory"


@pytest.mark.parametrize("verb", ["remove", "verify"])
def test_a_snapshot_that_somebody_works_on_is_neither_removed_nor_judged(
    verb: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    made = make(label="mine")
    monkeypatch.setattr(CliSession, "locked", lambda session: locked(session.name, timeout=0))
    words = ["snapshot", verb, "mine", "--name", "demo"]
    with locked("demo"):
        assert run(words) == StateError.exit_code
        assert "another command is working on cluster 'demo'" in capfd.readouterr()[1]
        assert store.read("demo", "mine") == made
    assert run(words) == 0
    assert (store.read("demo", "mine") is None) is (verb == "remove")


def test_a_removal_that_is_killed_leaves_no_half_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = make()

    def kill(path: Path) -> None:
        if path.exists():
            (path / "vm-001.ram").unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(store, "remove_tree", kill)
    with pytest.raises(KeyboardInterrupt):
        store.remove(made)
    assert store.read("demo", "auto") is None
    assert store.list_snapshots() == ()
