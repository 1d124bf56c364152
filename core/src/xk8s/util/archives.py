"""Archives from outside: bounded, and never unpacked outside their target.

The only place that unpacks. tarfile's own ``filter="data"`` is not in the Python of Debian 12
(3.11.2) and bounds nothing, so the rules are here: no absolute name, no "..", no device, nothing
written through a link, no link that leads out (also not through other links), no set-uid; and
`Limits`.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from typing import IO, Any

from attrs import evolve

from xk8s.util.bounded_tar import (
    BoundedTar,
    Forward,
    Limits,
    UnsafeArchive,
    bound_members,
    bound_size,
    reading,
)
from xk8s.util.inside import LeadsOut, TooManyLinks, find_in, resolve, safe_name
from xk8s.util.log import get_logger

log = get_logger(__name__)

ZSTD = b"\x28\xb5\x2f\xfd"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_OPEN: tuple[tuple[bytes, Callable[[Path], Any]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\0", lzma.open),
    (b"]\0\0", lzma.open),
)
"""How compressed files begin, and how they are read."""

_CHUNK = 1 << 20
_WORDS = 4096
"""Bytes of what a failing program says that an error shows."""


def unpack(
    archive: Path,
    target: Path,
    *,
    check: Callable[[], None] = lambda: None,
    limits: Limits | None = None,
) -> None:
    """Unpack .tar (plain, gz, bz2, xz, zst) or .zip, recognised by content, into ``target``.

    ``check`` is called again and again and may raise to stop. `UnsafeArchive` names the archive and
    the member that breaks a rule; what was unpacked before it stays.
    """
    limits = _of(archive, limits)
    if _start(archive, 4) in _ZIP:
        _unzip(archive, target, check, limits)
        return
    with open_tar(archive, limits=limits) as tar:
        unpack_tar(tar, target, check=check)


@contextmanager
def open_tar(archive: Path, *, limits: Limits | None = None) -> Iterator[BoundedTar]:
    """A tar archive for reading once, front to back; zstd through its program. `UnsafeArchive`
    when it breaks the limits or cannot be read.
    """
    limits = _of(archive, limits)
    start = _start(archive, 6)
    if start.startswith(ZSTD):
        if shutil.which("zstd") is None:
            raise UnsafeArchive(
                f"{archive.name}: the program zstd is needed to unpack it and is not installed"
            )
        argv = ["zstd", "-dcq", "--", str(archive)]
        with piped_tar(argv, name=archive.name, limits=limits) as tar:
            yield tar
        return
    opener = next((open_ for magic, open_ in _OPEN if start.startswith(magic)), None)
    with opener(archive) if opener else archive.open("rb") as stream:
        yield BoundedTar(stream, archive.name, limits)


@contextmanager
def piped_tar(
    argv: list[str], *, name: str = "", limits: Limits | None = None
) -> Iterator[BoundedTar]:
    """The tar archive that a program writes to its output; `UnsafeArchive` when it fails. ``name``
    is what errors call it.
    """
    name = name or argv[0]
    with log.timed("program_run", argv=argv) as result, TemporaryFile() as words:
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=words)
        assert process.stdout is not None
        problem: UnsafeArchive | None = None
        try:
            with process.stdout:
                tar = BoundedTar(Forward(process.stdout), name, limits or Limits())
                yield tar
                # The padding behind the last member: unread, it would break the program's pipe.
                tar.drain()
        except UnsafeArchive as error:
            process.kill()
            problem = error
        except BaseException:
            process.kill()
            process.wait()
            raise
        result["exit_code"] = process.wait()
        words.seek(0)
        said = words.read(_WORDS).decode(errors="replace").strip()
        if problem is not None:
            # What is not read completely is the program's fault if it says so.
            raise UnsafeArchive(f"{name}: {argv[0]}: {said}") if said else problem
        if process.returncode != 0:
            said = said or f"exit code {process.returncode}"
            raise UnsafeArchive(f"{name}: {argv[0]}: {said}")


def unpack_tar(
    tar: BoundedTar,
    target: Path,
    *,
    rooted: bool = False,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Unpack all members below ``target`` as the user who runs it.

    ``rooted``: absolute link targets are meant inside the tree (a package of a guest) and are
    kept as they are; otherwise no link may be absolute.
    """
    into = _Target(target, tar.label, tar.limits, check)
    for member in tar:
        check()
        name = into.name(member.name)
        if member.isdir():
            into.directory(name, member.mode)
        elif member.isreg():
            with reading(tar.label):
                source = tar.extractfile(member)
            assert source is not None
            into.file(name, source, member.size, member.mode)
        elif member.islnk():
            into.hard_link(name, into.name(member.linkname))
        elif member.issym():
            into.link(name, member.linkname)
        else:
            raise into.refuse(name, "is neither file, directory nor link (a device or pipe?)")
    into.finish(rooted=rooted)


def _unzip(archive: Path, target: Path, check: Callable[[], None], limits: Limits) -> None:
    into = _Target(target, archive.name, limits, check)
    with reading(archive.name):
        source = zipfile.ZipFile(archive)
    with source:
        for number, info in enumerate(source.infolist(), 1):
            check()
            name = into.name(info.filename)
            bound_members(number, limits, archive.name, info.filename)
            mode = info.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise into.refuse(name, "is neither a file nor a directory")
            if info.is_dir():
                into.directory(name, mode or 0o755)
                continue
            with reading(archive.name):
                stream = source.open(info)
            with stream:
                into.file(name, stream, info.file_size, mode or 0o644)
    into.finish(rooted=False)


class _Target:
    """The tree that an archive is unpacked into. Every path is made of real directories: nothing
    is made, replaced or linked through a link.
    """

    def __init__(self, root: Path, label: str, limits: Limits, check: Callable[[], None]) -> None:
        self._root = root
        self._label = label
        self._limits = limits
        self._check = check
        self._size = 0
        self._links: dict[PurePosixPath, None] = {}
        self._modes: dict[Path, int] = {}
        root.mkdir(parents=True, exist_ok=True)

    def refuse(self, name: PurePosixPath | str, why: str) -> UnsafeArchive:
        return UnsafeArchive(f"{self._label}: {str(name)!r} {why}")

    def name(self, name: str) -> PurePosixPath:
        if wrong := safe_name(name):
            short = name if len(name) <= 100 else f"{name[:100]}…"
            raise self.refuse(short, wrong)
        return PurePosixPath(name)

    def directory(self, name: PurePosixPath, mode: int) -> None:
        path = self._place(name)
        if path != self._root:
            self._enter(path, name)
        self._modes[path] = (mode & 0o755) | 0o700

    def file(self, name: PurePosixPath, source: IO[bytes], size: int, mode: int) -> None:
        bound_size(self._size + size, self._limits, self._label, str(name))
        path = self._cleared(name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, 0o600), "wb") as sink:
            while data := self._read(source):
                self._size += len(data)
                bound_size(self._size, self._limits, self._label, str(name))
                sink.write(data)
                self._check()
        path.chmod((mode & 0o755) | 0o600)

    def hard_link(self, name: PurePosixPath, of: PurePosixPath) -> None:
        source = self._place(of)
        if name == of:
            raise self.refuse(name, "is a link to itself")
        kind = _kind(source)
        if kind not in (stat.S_IFREG, stat.S_IFLNK):
            raise self.refuse(name, f"is a link to {str(of)!r}, which is not a file before it")
        # Linux: a link to the symbolic link itself, as in tar, not to the file that it names.
        os.link(source, self._cleared(name), follow_symlinks=False)
        if kind == stat.S_IFLNK:
            self._links[name] = None

    def link(self, name: PurePosixPath, to: str) -> None:
        if not to or "\0" in to or len(os.fsencode(to)) > self._limits.name:
            raise self.refuse(name, "is a link to an empty, broken or overlong name")
        self._cleared(name).symlink_to(to)
        self._links[name] = None

    def finish(self, *, rooted: bool) -> None:
        """Set the modes of directories; refuse links that lead out. Links may lead to what came
        behind them, so that only the whole tree tells.
        """
        for name in self._links:
            try:
                with suppress(TooManyLinks):
                    resolve(self._root, str(name), rooted=rooted)
            except LeadsOut as error:
                to = os.readlink(self._root / name)  # noqa: PTH115 - Path would normalise it
                raise UnsafeArchive(
                    f"{self._label}: the archive has a link out of it: {str(name)!r} -> {to!r}: "
                    f"{error}"
                ) from None
        for path, mode in self._modes.items():
            path.chmod(mode)

    def _read(self, source: IO[bytes]) -> bytes:
        with reading(self._label):
            return source.read(_CHUNK)

    def _place(self, name: PurePosixPath) -> Path:
        """Return the path of a member, after making the directories above it (never links)."""
        path = self._root
        for part in name.parts[:-1]:
            path /= part
            self._enter(path, name)
        return path / name.name if name.name else path

    def _enter(self, path: Path, name: PurePosixPath) -> None:
        kind = _kind(path)
        if kind is None:
            path.mkdir()
        elif kind != stat.S_IFDIR:
            what = "a link" if kind == stat.S_IFLNK else "a file"
            raise self.refuse(name, f"leads through {what} of the archive")

    def _cleared(self, name: PurePosixPath) -> Path:
        """Return the path of a file or link, removing an earlier member of that name: the last one
        counts, as in tar.
        """
        path = self._place(name)
        kind = _kind(path)
        if kind == stat.S_IFDIR:
            raise self.refuse(name, "is a directory and something else in the archive")
        if kind is not None:
            path.unlink()
            self._links.pop(name, None)
        return path


def _kind(path: Path) -> int | None:
    try:
        return stat.S_IFMT(path.lstat().st_mode)
    except FileNotFoundError:
        return None


def _start(archive: Path, size: int) -> bytes:
    with archive.open("rb") as stream:
        return stream.read(size)


def _of(archive: Path, limits: Limits | None) -> Limits:
    """Return the limits of an archive: one that is large itself may unpack to twice its size."""
    limits = limits or Limits()
    return evolve(limits, size=max(limits.size, 2 * archive.stat().st_size))


__all__ = [
    "ZSTD",
    "BoundedTar",
    "Limits",
    "UnsafeArchive",
    "find_in",
    "open_tar",
    "piped_tar",
    "unpack",
    "unpack_tar",
]
