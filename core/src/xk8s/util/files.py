"""Files and trees: digests, cheap copies, and writing that survives a crash."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def absolute(path: Path) -> Path:
    """Return the path from the root: what programs that run elsewhere are given."""
    return path.absolute()


def file_digest(path: Path) -> str:
    """Hex sha256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def walk(root: Path) -> Iterator[Path]:
    """Everything below ``root`` in sorted order, parents first; links are not followed."""
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        path = Path(entry.path)
        yield path
        if entry.is_dir(follow_symlinks=False):
            yield from walk(path)


def content_digest(path: Path) -> str:
    """`file_digest` of a file, `tree_digest` of a directory or link: as provenance has it."""
    if path.is_file() and not path.is_symlink():
        return file_digest(path)
    return tree_digest(path)


def tree_digest(path: Path) -> str:
    """Hex sha256 over names, kinds, permission bits and contents of a file or a directory's
    tree; times and owners do not count. ValueError names a device, socket or pipe.
    """
    total = hashlib.sha256()
    base = path
    for entry in (path, *(walk(path) if path.is_dir() and not path.is_symlink() else ())):
        status = entry.lstat()
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISLNK(status.st_mode):
            what = f"link {os.readlink(entry)}"  # noqa: PTH115 - Path would normalise it
        elif stat.S_ISDIR(status.st_mode):
            what = f"dir {mode:o}"
        elif stat.S_ISREG(status.st_mode):
            what = f"file {mode:o} {file_digest(entry)}"
        else:
            raise ValueError(f"{entry} is neither file, directory nor symbolic link")
        name = "" if entry == base else entry.relative_to(base).as_posix()
        total.update(os.fsencode(f"{name}\0{what}\0"))
    return total.hexdigest()


def copy_file(source: Path, target: Path, *, link: bool, mode: int | None = None) -> None:
    """Put the file at ``target``: a hard link where ``link`` allows it, the file system does
    and the permission bits are to stay; else a copy. Symbolic links are copied as such.
    """
    status = source.lstat()
    if stat.S_ISLNK(status.st_mode):
        target.symlink_to(os.readlink(source))  # noqa: PTH115
        return
    bits = stat.S_IMODE(status.st_mode)
    wanted = bits if mode is None else mode
    if link and wanted == bits:
        try:
            target.hardlink_to(source)
        except OSError:
            pass  # another file system, or one without hard links
        else:
            return
    shutil.copyfile(source, target)
    target.chmod(wanted)


def copy_tree(source: Path, target: Path, *, link: bool) -> None:
    """Copy a file or a tree to ``target``, merging into existing directories; files as
    `copy_file`. FileExistsError when a file would be put over another.
    """
    if not source.is_dir() or source.is_symlink():
        copy_file(source, target, link=link)
        return
    target.mkdir(exist_ok=True)
    target.chmod(stat.S_IMODE(source.stat().st_mode))
    for path in walk(source):
        there = target / path.relative_to(source)
        if path.is_dir() and not path.is_symlink():
            if there.is_symlink():
                raise FileExistsError(f"{there} is a symbolic link")
            there.mkdir(exist_ok=True)
            there.chmod(stat.S_IMODE(path.stat().st_mode))
        elif there.is_symlink() or there.exists():
            raise FileExistsError(str(there))
        else:
            copy_file(path, there, link=link)


def remove_tree(path: Path) -> None:
    """Remove a file or tree if it exists, including one with directories made read-only."""
    if not path.is_symlink() and path.is_dir():
        path.chmod(0o700)
        for directory in walk_dirs(path):
            directory.chmod(0o700)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def walk_dirs(root: Path) -> Iterator[Path]:
    """Directories below ``root``, parents first, each looked into after it was given out."""
    for entry in os.scandir(root):
        if entry.is_dir(follow_symlinks=False):
            yield Path(entry.path)
            yield from walk_dirs(Path(entry.path))


def write_atomic(path: Path, data: bytes | str, *, mode: int | None = None) -> None:
    """Replace ``path`` in one step: a reader, also one after a power loss, sees the old content or
    the new one. Safe with several writers at a time. ``mode`` defaults to what the umask leaves.
    The directory must exist.
    """
    content = data.encode() if isinstance(data, str) else data
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o666 & ~_umask() if mode is None else mode)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def overwrite(path: Path, data: bytes) -> bool:
    """Replace the content of a file within the blocks that it has, where `write_atomic` fails on a
    full disk; False when it has not enough. A reader may see a part, also after a power loss.
    """
    try:
        with path.open("r+b", buffering=0) as file:
            if os.fstat(file.fileno()).st_blocks * 512 < len(data):
                return False
            file.write(data)
            file.truncate()
            os.fsync(file.fileno())
    except OSError:
        return False
    return True


def put_in_place(work: Path, target: Path) -> None:
    """Give a finished file or directory its name once all of it is on the disk. An earlier one of
    that name goes when this one has it: after a kill or a power loss it is the old or the new one,
    whole.
    """
    flush(work)
    if target.is_dir() and not target.is_symlink():
        _exchange(work, target)
        sync(target.parent)
        with contextlib.suppress(OSError):  # the new one is in place, whatever becomes of it
            remove_tree(work)
        return
    work.replace(target)
    sync(target.parent)


def _exchange(one: Path, other: Path) -> None:
    """Let two names change places in one step, if the file system can; else in three."""
    if _renameat2(one, other, _RENAME_EXCHANGE):
        return
    aside = other.with_name(f".{other.name}.aside")
    remove_tree(aside)
    other.rename(aside)
    try:
        one.rename(other)
    except BaseException:
        aside.rename(other)
        raise
    aside.rename(one)


def _renameat2(one: Path, other: Path, flags: int) -> bool:
    """Call Linux's renameat2, which Python lacks; False where it is not known."""
    import ctypes

    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), flags) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))


def flush(path: Path) -> None:
    """Return once a file, or a directory with everything in it, is on the disk."""
    if path.is_dir():
        for below in walk(path):
            if below.is_file() and not below.is_symlink():
                sync(below)
        for directory in walk_dirs(path):
            sync(directory)
    sync(path)


def sync(path: Path) -> None:
    """Return once the content of a file, or the names in a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    # The system call can only exchange it, which other threads would notice.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("Umask:")[2].split()[0], 8)
