"""Archives, never unpacked outside their target.

tarfile's own ``filter="data"`` is not in the Python of Debian 12 (3.11.2), so its rules are
here: no absolute name, no "..", no device, nothing written through a link, no set-uid.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from xk8s.util.log import get_logger

log = get_logger(__name__)

ZSTD = b"\x28\xb5\x2f\xfd"


class UnsafeArchive(Exception):
    """The archive tries to write outside its target, or cannot be read."""


def inside(name: str) -> PurePosixPath:
    """Return the relative path of an archive's name; `UnsafeArchive` when it leaves the target."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise UnsafeArchive(f"the archive has an unsafe path: {name!r}")
    return path


def unpack(archive: Path, target: Path, *, check: Callable[[], None] = lambda: None) -> None:
    """Unpack .tar (plain, gz, bz2, xz, zst) or .zip, recognised by content, into ``target``.

    ``check`` is called between members and may raise to stop. Raises `UnsafeArchive`.
    """
    try:
        if zipfile.is_zipfile(archive):
            _unzip(archive, target, check)
            return
        with open_tar(archive) as tar:
            unpack_tar(tar, target, check=check)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError) as error:
        raise UnsafeArchive(f"the archive cannot be read: {error}") from error


@contextmanager
def open_tar(archive: Path) -> Iterator[tarfile.TarFile]:
    """A tar archive for reading once, front to back; zstd through its program."""
    with archive.open("rb") as stream:
        compressed = stream.read(4) == ZSTD
    if not compressed:
        with tarfile.open(archive) as tar:
            yield tar
        return
    if shutil.which("zstd") is None:
        raise UnsafeArchive("the program zstd is needed to unpack it and is not installed")
    with piped_tar(["zstd", "-dcq", "--", str(archive)]) as tar:
        yield tar


@contextmanager
def piped_tar(argv: list[str]) -> Iterator[tarfile.TarFile]:
    """The tar archive that a program writes to its output; `UnsafeArchive` when it fails."""
    with log.timed("program_run", argv=argv) as result, _piped_tar(argv, result) as tar:
        yield tar


@contextmanager
def _piped_tar(argv: list[str], result: dict[str, object]) -> Iterator[tarfile.TarFile]:
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    try:
        with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
            yield tar
        # The padding behind the last member: unread, it would break the program's pipe.
        while process.stdout.read(1 << 16):
            pass
    except tarfile.TarError as error:
        process.kill()
        said = process.communicate()[1].decode(errors="replace").strip()
        result["exit_code"] = process.returncode
        raise UnsafeArchive(f"{argv[0]}: {said or error}") from error
    except BaseException:
        process.kill()
        process.communicate()
        raise
    said = process.communicate()[1].decode(errors="replace").strip()
    result["exit_code"] = process.returncode
    if process.returncode != 0:
        raise UnsafeArchive(f"{argv[0]}: {said or f'exit code {process.returncode}'}")


def unpack_tar(
    tar: tarfile.TarFile,
    target: Path,
    *,
    rooted: bool = False,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Unpack all members below ``target`` as the user who runs it.

    ``rooted``: absolute link targets are meant inside the tree (a package of a guest) and are
    kept as they are; otherwise links must stay in the archive. Links are made last, so nothing
    is ever written through one.
    """
    target.mkdir(parents=True, exist_ok=True)
    links: list[tuple[PurePosixPath, str]] = []
    modes: list[tuple[Path, int]] = []
    for member in tar:
        check()
        name = inside(member.name.removeprefix("./"))
        path = target / name
        if member.isdir():
            path.mkdir(parents=True, exist_ok=True)
            modes.append((path, (member.mode & 0o755) | 0o700))
        elif member.isreg():
            source = tar.extractfile(member)
            assert source is not None
            _write(path, source, member.mode)
        elif member.islnk():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.hardlink_to(target / inside(member.linkname.removeprefix("./")))
        elif member.issym():
            _check_link(name, member.linkname, rooted)
            links.append((name, member.linkname))
        else:
            raise UnsafeArchive(f"the archive has a device or pipe: {member.name!r}")
    for name, link in links:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(link)
    for path, mode in modes:
        path.chmod(mode)


def _check_link(name: PurePosixPath, link: str, rooted: bool) -> None:
    depth = len(name.parent.parts)
    path = PurePosixPath(link)
    if path.is_absolute():
        if not rooted:
            raise UnsafeArchive(f"the archive has a link out of it: {str(name)!r} -> {link!r}")
        depth, path = 0, PurePosixPath(*path.parts[1:])
    for part in path.parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            raise UnsafeArchive(f"the archive has a link out of it: {str(name)!r} -> {link!r}")


def _write(path: Path, source: IO[bytes], mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # a name twice in one archive: the last one counts, as in tar
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
    path.chmod((mode & 0o755) | 0o600)


def _unzip(archive: Path, target: Path, check: Callable[[], None]) -> None:
    with zipfile.ZipFile(archive) as source:
        for info in source.infolist():
            check()
            path = target / inside(info.filename)
            mode = info.external_attr >> 16
            if stat.S_ISLNK(mode):
                raise UnsafeArchive(f"the archive has a link: {info.filename!r}")
            if info.is_dir():
                path.mkdir(parents=True, exist_ok=True)
            else:
                with source.open(info) as stream:
                    _write(path, stream, mode or 0o644)


def find_in(root: Path, wanted: str) -> Path | None:
    """Return the file or directory ``wanted`` of an unpacked tree, following links inside ``root``
    only (absolute ones from ``root``); None if it does not exist.
    """
    parts = [part for part in PurePosixPath(wanted).parts if part not in ("/", ".")]
    current = root
    for _ in range(64):  # as many links as Linux follows, and then some
        if not parts:
            return current if current != root or wanted in (".", "/") else None
        part, *parts = parts
        if part == "..":
            current = current if current == root else current.parent
            continue
        current /= part
        if current.is_symlink():
            link = PurePosixPath(os.readlink(current))  # noqa: PTH115
            current = root if link.is_absolute() else current.parent
            parts = [part for part in link.parts if part != "/"] + parts
        elif not current.exists():
            return None
    return None
