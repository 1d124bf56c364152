"""Change a user's kubeconfig: locked against kubectl and ourselves, in one step, backed up.

Whatever happens – a full disk, a kill at any moment – the file is the old or the new one, complete.
"""

from __future__ import annotations

import codecs
import errno
import fcntl
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from attrs import frozen
from xk8s.errors import HostError, StateError, UsageError

from xk8s_kubernetes.kubeconfig_nodes import NotKubeconfig

LOCK_SECONDS = 10.0
BACKUP_SUFFIX = ".xk8s-backup"
NEWEST_BACKUPS = 3
"""Number of backups kept besides the first; each is a copy of the user's credentials."""

_MARK = b"xk8s\n"


def read(path: Path) -> str:
    """Return the text; "" if the file does not exist. `UsageError` if it is not a text file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise refused(path, "it is not a regular file")
        return path.read_bytes().decode()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise refused(path, str(error)) from error


def refused(path: Path, why: str) -> UsageError:
    """Return the error for a file that is not touched."""
    return UsageError(
        f"not a kubeconfig, left as it is: {why}",
        where=str(path),
        hint="fix it, or name another FILE",
    )


@frozen(kw_only=True)
class Outcome:
    """Whether the file was changed, and the backup with what the user had in it; None if there was
    no file.
    """

    changed: bool
    backup: Path | None = None


def edit(
    path: Path, change: Callable[[str], str], *, own: Callable[[str], str] = lambda text: text
) -> Outcome:
    """Replace the file's text by ``change`` of it; for a symbolic link, that of its target.

    A backup is made unless one has ``own`` of the old text, the user's part of it; so what we
    wrote never takes the place of what the user wrote. `UsageError` if it is not a kubeconfig,
    `StateError` if another program holds the lock, `HostError` if the file cannot be written:
    then it is unchanged.
    """
    try:
        target = Path(os.path.realpath(path, strict=False))
        if target.is_symlink():
            raise refused(path, "its symbolic link leads to itself")
        if target.is_dir():
            raise refused(path, "it is a directory")
        if not target.exists() and change("") == "":
            return Outcome(changed=False)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as locks:
            # kubectl locks the name that it was given; with another name, the target is locked.
            named = Path(os.path.realpath(path.parent)) / path.name
            for name in dict.fromkeys((named, target)):
                locks.enter_context(locked(name))
            return _replace(target, change, own)
    except NotKubeconfig as error:
        raise refused(path, str(error)) from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise HostError(
            f"{path} cannot be changed: {error.strerror}",
            where=str(error.filename or path),
            hint="free disk space"
            if full
            else "check its permissions and those of its directory, or name another FILE",
        ) from error


def _replace(target: Path, change: Callable[[str], str], own: Callable[[str], str]) -> Outcome:
    for left in target.parent.glob(f".{_escaped(target.name)}.xk8s-*"):
        left.unlink()  # by a process that was killed: we have the lock
    old = read(target)
    mark = codecs.BOM_UTF8.decode() if old.startswith(codecs.BOM_UTF8.decode()) else ""
    new = mark + change(old.removeprefix(mark))
    if new == old:
        return Outcome(changed=False)
    backup = None
    if target.exists():
        info = target.stat()
        if not info.st_mode & 0o222 or not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, "it is read-only", str(target))
        backup = _backup(target, old.removeprefix(mark), own)
    _write(target, new.encode(), like=target if backup else None)
    return Outcome(changed=True, backup=backup)


def _write(path: Path, data: bytes, *, like: Path | None) -> None:
    """Write in one step; owner, permissions and extended attributes of ``like``, else just ours."""
    temporary = path.with_name(f".{path.name}.xk8s-{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if like is not None:
                info, mine = like.stat(), os.fstat(file.fileno())
                if (info.st_uid, info.st_gid) != (mine.st_uid, mine.st_gid):
                    os.fchown(file.fileno(), info.st_uid, info.st_gid)
                shutil.copystat(like, temporary)
                os.utime(file.fileno())
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # not every file system can
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- backups ----------------------------------------------------------------------------


def backups(target: Path) -> dict[int, Path]:
    """Return existing backups by number, the first one first."""
    pattern = re.compile(re.escape(target.name + BACKUP_SUFFIX) + r"(?:-([1-9]\d*))?")
    found = {
        int(match[1] or 1): path
        for path in target.parent.iterdir()
        if (match := pattern.fullmatch(path.name))
    }
    return dict(sorted(found.items()))


def _backup(target: Path, old: str, own: Callable[[str], str]) -> Path:
    """Return a backup of what the user has in the file, made if there is none."""
    there = backups(target)
    for path in reversed(there.values()):
        with suppress(UsageError, NotKubeconfig):
            if own(read(path)) == own(old):
                return path
    number = max(there, default=0) + 1
    new = target.with_name(target.name + BACKUP_SUFFIX + (f"-{number}" if number > 1 else ""))
    _write(new, target.read_bytes(), like=target)
    for path in list(there.values())[1 : 1 - NEWEST_BACKUPS]:
        path.unlink()
    return new


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


# --- the lock ---------------------------------------------------------------------------


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold FILE.lock, created exclusively, which is how kubectl locks the same file.

    kubectl's stays for ever if kubectl is killed, and nobody can tell. Ours has a mark in it
    and is held by a kernel lock too: the next xk8s sees that its owner is gone and takes it over.
    """
    lock = path.with_name(path.name + ".lock")
    deadline = time.monotonic() + LOCK_SECONDS
    while (descriptor := _try_lock(lock)) is None:
        if time.monotonic() > deadline:
            raise StateError(
                f"{path} is locked by another program{_since(lock)}",
                where=str(lock),
                hint=f"if no kubectl or xk8s is using it: rm {lock}",
            )
        time.sleep(0.05)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def _try_lock(lock: Path) -> int | None:
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return _take_over(lock)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, _MARK)
    except BaseException:
        lock.unlink(missing_ok=True)
        os.close(descriptor)
        raise
    return descriptor


def _take_over(lock: Path) -> int | None:
    """Return the lock of an xk8s that is gone; None if it is in use, or kubectl's."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if os.read(descriptor, len(_MARK) + 1) == _MARK:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), lock.stat()):
                return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _since(lock: Path) -> str:
    with suppress(OSError):
        return f", since {time.strftime('%F %T', time.localtime(lock.stat().st_mtime))}"
    return ""
