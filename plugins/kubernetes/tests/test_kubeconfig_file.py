"""The user's file: what happens to it when everything goes wrong. Real files and processes."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from xk8s.errors import HostError, StateError, UsageError, Xk8sError
from xk8s_kubernetes import kubeconfig_file as module
from xk8s_kubernetes.command import _users_part
from xk8s_kubernetes.kubeconfig_edit import contexts, merged, without
from xk8s_kubernetes.kubeconfig_file import backups, edit, locked

TEXT = "# mine\ncontexts:\n- name: work\n  context: {}\ncurrent-context: work\n"


def config(name: str, **more: str) -> dict[str, object]:
    return {
        "clusters": [{"name": name, "cluster": {"server": "https://x", **more}}],
        "users": [{"name": f"{name}-admin", "user": {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": f"{name}-admin"}}],
        "current-context": name,
    }


def merge(path: Path, name: str = "xk8s-a", **more: str) -> module.Outcome:
    return edit(path, lambda old: merged(old, config(name, **more)), own=_users_part)


def remove(path: Path, name: str = "xk8s-a") -> module.Outcome:
    return edit(path, lambda old: without(old, name), own=_users_part)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config"
    path.write_text(TEXT)
    path.chmod(0o600)
    return path


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.2)


def test_permissions_owner_and_attributes_stay(file: Path) -> None:
    file.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(file, 12345, 54321)
    try:
        os.setxattr(file, "user.note", b"mine")
    except OSError:
        note = None
    else:
        note = b"mine"
    before = file.stat()
    merge(file)
    after = file.stat()
    for status in (after, backups(file)[1].stat()):
        assert stat.S_IMODE(status.st_mode) == 0o640
        assert (status.st_uid, status.st_gid) == (before.st_uid, before.st_gid)
    if note:
        assert os.getxattr(file, "user.note") == note
    assert after.st_mtime >= before.st_mtime
    assert remove(file).changed
    assert file.read_text() == TEXT


def test_a_new_file_and_its_directory_are_private(tmp_path: Path) -> None:
    path = tmp_path / "kube" / "config"
    assert merge(path) == module.Outcome(changed=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert names(path.parent) == ["config"]


def test_nothing_to_change_touches_nothing(file: Path) -> None:
    before = file.stat()
    assert not remove(file).changed
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert names(file.parent) == ["config"]


# --- backups ----------------------------------------------------------------------------


def test_the_users_own_is_backed_up_not_what_we_made_of_it(file: Path) -> None:
    first = file.with_name("config.xk8s-backup")
    assert merge(file).backup == first
    for name in ("xk8s-b", "xk8s-c"):
        assert merge(file, name).backup == first
    assert merge(file, note="other").backup == first
    assert remove(file, "xk8s-b").backup == first
    assert first.read_text() == TEXT
    assert names(file.parent) == ["config", "config.xk8s-backup"]


def test_what_the_user_wrote_since_has_a_backup_of_its_own(file: Path) -> None:
    merge(file)
    texts = [TEXT]
    for number in range(2, 7):
        file.write_text(file.read_text() + f"# more {number}\n")
        merge(file, note=str(number))
        texts.append(texts[-1] + f"# more {number}\n")
    there = backups(file)
    # The first and the newest three; numbers are not used again.
    assert list(there) == [1, 4, 5, 6]
    for number, path in there.items():
        assert without(path.read_text(), "xk8s-a") == texts[number - 1]


def test_a_damaged_backup_is_no_backup(file: Path) -> None:
    file.with_name("config.xk8s-backup").write_text("clusters: 3")
    assert merge(file).backup == file.with_name("config.xk8s-backup-2")
    assert file.with_name("config.xk8s-backup").read_text() == "clusters: 3"


# --- links ------------------------------------------------------------------------------


def test_a_link_stays_one(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "home"
    other.mkdir()
    link = other / "config"
    link.symlink_to("../config")
    merge(link)
    assert link.is_symlink()
    assert contexts(file.read_text()) == ("work", "xk8s-a")
    assert names(other) == ["config"]
    assert names(tmp_path) == ["config", "config.xk8s-backup", "home"]


def test_a_link_to_nothing_gets_its_target(tmp_path: Path) -> None:
    link = tmp_path / "config"
    link.symlink_to("elsewhere/config")
    merge(link)
    assert link.is_symlink()
    assert contexts(link.read_text()) == ("xk8s-a",)
    assert names(tmp_path / "elsewhere") == ["config"]


def test_a_link_in_the_path_is_no_second_lock(file: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").symlink_to(".")
    merge(tmp_path / "sub" / "config")
    assert contexts(file.read_text()) == ("work", "xk8s-a")


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "config"
    link.symlink_to("config")
    with pytest.raises(UsageError, match="leads to itself"):
        merge(link)
    assert names(tmp_path) == ["config"]


# --- what cannot be changed -------------------------------------------------------------


@pytest.mark.parametrize("data", [b"- a\n", b"clusters: 3\n", b"\xff\xfe", b"a: [", b"\x00"])
def test_what_is_no_kubeconfig_is_left_alone(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    with pytest.raises(UsageError, match="left as it is"):
        merge(file)
    assert file.read_bytes() == data
    assert names(file.parent) == ["config"]


def test_neither_directories_nor_pipes_are_read(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, why in (("directory", "a directory"), ("pipe", "not a regular file")):
        with pytest.raises(UsageError, match=why):
            merge(tmp_path / name)
    for path in (Path(), Path("/"), Path("..")):
        with pytest.raises(UsageError, match="a directory"):
            merge(path)
    assert names(tmp_path) == ["directory", "pipe"]


def test_a_place_where_no_file_can_be_is_named(file: Path) -> None:
    for path in (file / "below", file.with_name("x" * 300), Path("/proc/none/config")):
        with pytest.raises(HostError, match="cannot be changed"):
            merge(path)
    assert file.read_text() == TEXT
    assert names(file.parent) == ["config"]


def test_a_byte_order_mark_stays(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    merge(file)
    assert file.read_bytes().startswith(b"\xef\xbb\xbf# mine\ncontexts:")
    remove(file)
    assert file.read_bytes() == b"\xef\xbb\xbf" + TEXT.encode()


def test_a_read_only_file_is_not_replaced(file: Path) -> None:
    # Root could write it; the user who took the permission meant something by it.
    file.chmod(0o400)
    with pytest.raises(HostError, match="it is read-only"):
        merge(file)
    assert file.read_text() == TEXT
    assert names(file.parent) == ["config"]


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that every user may enter."""
    directory = Path(tempfile.mkdtemp(prefix="xk8s-t-", dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def as_nobody(what: Callable[[], object]) -> str:
    """The error that it makes for a user who is not root; "" for none."""
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        said = "died"
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            what()
            said = ""
        except Xk8sError as error:
            said = f"{type(error).__name__}: {error}"
        finally:
            os.write(write, said.encode())
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        return pipe.read()


def test_a_directory_that_cannot_be_written_is_named(public: Path) -> None:
    path = public / "config"
    path.write_text(TEXT)
    path.chmod(0o666)
    assert as_nobody(lambda: merge(path)) == (
        f"HostError: {path} cannot be changed: Permission denied"
    )
    assert path.read_text() == TEXT
    assert names(public) == ["config"]


def test_the_file_of_another_user_stays_theirs(public: Path) -> None:
    public.chmod(0o777)
    path = public / "config"
    path.write_text(TEXT)
    path.chmod(0o666)
    assert "HostError" in as_nobody(lambda: merge(path))
    assert path.read_text() == TEXT
    assert path.stat().st_uid == 0
    assert names(public) == ["config"]
    os.chown(path, 65534, 65534)
    assert as_nobody(lambda: merge(path)) == ""
    assert path.stat().st_uid == 65534
    assert contexts(path.read_text()) == ("work", "xk8s-a")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("only root can make a small disk to fill")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("room", [0, 8192, 12288])
def test_a_full_disk_changes_nothing(small: Path, room: int) -> None:
    path = small / "config"
    text = TEXT + "# " + "x" * 8000 + "\n"
    path.write_text(text)
    free = os.statvfs(small).f_bavail * os.statvfs(small).f_frsize
    (small / "filler").write_bytes(b"x" * (free - room))
    with pytest.raises(HostError, match="No space left on device") as caught:
        merge(path)
    assert caught.value.hint == "free disk space"
    assert path.read_text() == text
    # There may have been room for the backup.
    assert set(names(small)) <= {"config", "filler", "config.xk8s-backup"}
    for backup in backups(path).values():
        assert backup.read_text() == text
    (small / "filler").unlink()
    merge(path)
    assert contexts(path.read_text()) == ("work", "xk8s-a")


# --- others at the same time ------------------------------------------------------------


def script(path: Path, name: str, before: str = "") -> list[str]:
    return [
        sys.executable,
        "-c",
        "import os, sys, time\nfrom pathlib import Path\n"
        f"sys.path[:0] = [{str(Path(__file__).parent)!r}]\nimport test_kubeconfig_file as t\n"
        f"{before}\nt.merge(Path({str(path)!r}), {name!r})",
    ]


def test_two_at_once_are_both_in(file: Path) -> None:
    clusters = [f"xk8s-{number}" for number in range(8)]
    running = [subprocess.Popen(script(file, name)) for name in clusters]
    assert [process.wait(60) for process in running] == [0] * 8
    assert contexts(file.read_text())[0] == "work"
    assert sorted(contexts(file.read_text())) == sorted(["work", *clusters])
    assert file.with_name("config.xk8s-backup").read_text() == TEXT
    assert names(file.parent) == ["config", "config.xk8s-backup"]


KILLED = {
    "with the lock": ("read", "module.read"),
    "writing": ("fsync", "os.fsync"),
    "before the step": ("replace", "Path.replace"),
}


@pytest.mark.parametrize("moment", sorted(KILLED))
def test_a_kill_leaves_the_old_file_and_stops_nobody(file: Path, moment: str) -> None:
    what = KILLED[moment][1].replace("module.", "t.module.")
    dead = subprocess.run(
        script(file, "xk8s-a", f"def die(*_): os.kill(os.getpid(), 9)\n{what} = die"), check=False
    )
    assert dead.returncode == -signal.SIGKILL
    assert file.read_text() == TEXT
    assert "config.lock" in names(file.parent)
    merge(file, "xk8s-b")
    assert contexts(file.read_text()) == ("work", "xk8s-b")
    assert names(file.parent) == ["config", "config.xk8s-backup"]
    assert file.with_name("config.xk8s-backup").read_text() == TEXT


def test_kubectls_lock_is_respected(file: Path) -> None:
    # As kubectl makes it: empty, and without permissions.
    lock = file.with_name("config.lock")
    os.close(os.open(lock, os.O_CREAT | os.O_EXCL, 0))
    with pytest.raises(StateError, match=r"locked by another program, since 20\d\d-") as caught:
        merge(file)
    assert caught.value.hint == f"if no kubectl or xk8s is using it: rm {lock}"
    assert file.read_text() == TEXT
    assert lock.exists()


def test_both_names_of_a_link_are_locked(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    for name in ("link", "config"):
        lock = tmp_path / f"{name}.lock"
        lock.touch()
        with pytest.raises(StateError, match="locked"):
            merge(link)
        lock.unlink()
    seen = []
    edit(link, lambda old: seen.append(names(tmp_path)) or old)
    assert {"link.lock", "config.lock"} <= set(seen[0])
    assert names(tmp_path) == ["config", "link"]


def test_the_lock_of_one_that_lives_is_waited_for(file: Path) -> None:
    hold = (
        "read = t.module.read\n"
        "def wait(path): print('held', flush=True); time.sleep(1); return read(path)\n"
        "t.module.read = wait"
    )
    other = subprocess.Popen(script(file, "xk8s-a", hold), stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    began = time.monotonic()
    with pytest.raises(StateError, match="locked"):
        merge(file, "xk8s-b")
    assert time.monotonic() - began < 1
    assert other.wait(30) == 0
    merge(file, "xk8s-b")
    assert contexts(file.read_text()) == ("work", "xk8s-a", "xk8s-b")


def test_a_lock_that_is_a_link_is_not_followed(file: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"xk8s\n")
    file.with_name("config.lock").symlink_to(precious)
    with pytest.raises(StateError), locked(file):
        pass
    assert precious.exists()


def test_an_error_in_between_leaves_no_lock(file: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        edit(file, lambda _: str(1 / 0))
    assert file.read_text() == TEXT
    assert names(file.parent) == ["config"]
