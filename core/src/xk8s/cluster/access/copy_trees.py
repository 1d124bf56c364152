"""Files and directories of this machine and of guests, as streams of tar."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from xk8s.errors import HostError
from xk8s.util.bounded_tar import BoundedTar, Forward, Limits, reading

_PARTIAL = ".xk8s-part"
_CHUNK = 1 << 20
_LIMITS = Limits(size=1 << 62, members=1 << 40)
"""A copy may be as large as it likes: its user asked for it. Headers are bounded."""


def pack(source: Path, name: str, out: BinaryIO) -> None:
    """Write a file or directory as ``name``, with modes and times; owners are not kept. Raises
    OSError with the path that cannot be read.
    """

    def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        # What is named is what is meant, also by a link to it.
        archive.add(source.resolve(strict=True), name, filter=anonymous)


def unpack(stream: BinaryIO, parent: Path, name: str) -> int:
    """Write the tree in a tar stream as ``parent``/``name``; return how many files that were.

    A guest wrote the stream: nothing of it gets out of that place, neither by its names nor through
    links, those that were there before included. Symbolic links are made as they are, last of
    all. `HostError` for devices and the like.
    """
    tree = _Tree(parent, name)
    label = f"what the guest sent for {name}"
    with reading(label):
        archive = BoundedTar(Forward(stream), label, _LIMITS)
        while (member := archive.next()) is not None:
            tree.take(archive, member)
        archive.drain()
    tree.finish()
    return tree.files


class _Tree:
    """A tree that is written below a directory, never through a link."""

    def __init__(self, parent: Path, name: str) -> None:
        self._parent = parent
        self._name = name
        self._last: list[Callable[[], None]] = []
        self.files = 0

    def take(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        where = self._path(member.name)
        mode = stat.S_IMODE(member.mode) & 0o777
        if member.isdir():
            self._directory(where, mode)
        elif member.isreg():
            source = archive.extractfile(member)
            assert source is not None
            self._file(where, source, mode, member.mtime)
        elif member.issym():
            self._last.append(lambda: self._link(where, member.linkname))
        elif member.islnk():
            self._hard_link(where, self._path(member.linkname))
        else:
            raise HostError(
                f"{member.name!r} is not a file, a directory or a link",
                where=str(self._parent / where),
                hint="devices and sockets cannot be copied",
            )

    def finish(self) -> None:
        for make in reversed(self._last):
            make()

    def _path(self, name: str) -> PurePosixPath:
        first, *rest = PurePosixPath(name).parts or ("",)
        if first in ("/", "..") or ".." in rest:
            raise HostError(f"the guest sent a path that leads elsewhere: {name!r}")
        return PurePosixPath(self._name, *rest)

    def _open_parent(self, where: PurePosixPath) -> int:
        current = os.open(self._parent, os.O_DIRECTORY | os.O_RDONLY)
        for part in where.parts[:-1]:
            flags = os.O_DIRECTORY | os.O_RDONLY | os.O_NOFOLLOW
            try:
                below = os.open(part, flags, dir_fd=current)
            except OSError as error:
                error.filename = str(self._parent / where)
                raise
            finally:
                os.close(current)
            current = below
        return current

    def _directory(self, where: PurePosixPath, mode: int) -> None:
        parent = self._open_parent(where)
        try:
            with suppress(FileExistsError):
                os.mkdir(where.name, 0o700, dir_fd=parent)
        finally:
            os.close(parent)
        # Later: a directory may be read-only.
        self._last.append(lambda: self._set_mode(where, mode))

    def _set_mode(self, where: PurePosixPath, mode: int) -> None:
        parent = self._open_parent(where)
        try:
            flags = os.O_DIRECTORY | os.O_RDONLY | os.O_NOFOLLOW
            directory = os.open(where.name, flags, dir_fd=parent)
            try:
                os.fchmod(directory, mode)
            finally:
                os.close(directory)
        finally:
            os.close(parent)

    def _file(self, where: PurePosixPath, source: IO[bytes], mode: int, mtime: float) -> None:
        parent = self._open_parent(where)
        partial = where.name[:200] + _PARTIAL
        try:
            with suppress(FileNotFoundError):
                os.unlink(partial, dir_fd=parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            descriptor = os.open(partial, flags, 0o600, dir_fd=parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    while data := source.read(_CHUNK):
                        file.write(data)
                    file.flush()
                    os.fchmod(file.fileno(), mode)
                    os.utime(file.fileno(), (mtime, mtime))
                os.rename(partial, where.name, src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                os.unlink(partial, dir_fd=parent)
                raise
        except OSError as error:
            error.filename = str(self._parent / where)
            raise
        finally:
            os.close(parent)
        self.files += 1

    def _link(self, where: PurePosixPath, target: str) -> None:
        parent = self._open_parent(where)
        try:
            with suppress(FileNotFoundError):
                os.unlink(where.name, dir_fd=parent)
            os.symlink(target, where.name, dir_fd=parent)
        finally:
            os.close(parent)
        self.files += 1

    def _hard_link(self, where: PurePosixPath, target: PurePosixPath) -> None:
        source, parent = self._open_parent(target), self._open_parent(where)
        try:
            with suppress(FileNotFoundError):
                os.unlink(where.name, dir_fd=parent)
            os.link(target.name, where.name, src_dir_fd=source, dst_dir_fd=parent,
                    follow_symlinks=False)  # fmt: skip
        finally:
            os.close(source)
            os.close(parent)
        self.files += 1
