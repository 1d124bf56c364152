"""A local directory as a throw-away overlay: its files override everything else in every guest.

This is xcluster's `work` overlay. The guest's root is the directory's ``default/`` if there is one,
otherwise the directory itself. It is read completely when the plan is made: the plan contains what
it had then.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from attrs import field, frozen

from xk8s.errors import StateError, UsageError, nearest
from xk8s.overlay import Directory, Entry, File, Layer, Symlink
from xk8s.util.guest_paths import MERGED, guest_path

ROOT = "default"
LEFT_OUT = (".git", "*~", ".*.swp", ".#*")
"""Files that editors and git leave behind."""

MOST_DEPTH = 100
MOST_ENTRIES = 50_000
MOST_BYTES = 1 << 30
"""More entries cannot be a set of changes: it is the wrong directory."""

_TOP = MERGED | {"boot", "dev", "etc", "home", "media", "mnt", "opt", "proc", "root", "run", "srv",
                 "sys", "tmp", "usr", "var"}  # fmt: skip
_MOUNTED = frozenset({"dev", "proc", "run", "sys"})
_LONGEST_NAME = 32


@frozen(kw_only=True)
class LocalDirectory:
    """A directory that was read. ``name`` is its absolute path, which is also the overlay's name;
    ``root`` is what the guest sees as "/"; ``entries`` are its content, by path.
    """

    name: str
    root: Path
    entries: tuple[Entry, ...] = field(repr=False)

    def layer(self, taken: Collection[str]) -> Layer:
        """Return its only layer, under a name that is not ``taken``."""
        # The name becomes part of a kernel argument and mount options.
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(self.name).name)[:_LONGEST_NAME].strip("-.")
        name, number = f"local-{plain or 'directory'}", 1
        while name in taken:
            number += 1
            name = f"local-{plain}-{number}"
        return Layer(name=name, entries=self.entries, replaces=("/",))


def is_directory(name: str) -> bool:
    """Return whether a name on the command line means a directory and not an installed overlay."""
    return "/" in name or name in (".", "..") or name.startswith("~")


def read_directories(
    names: Sequence[str], kept: Path | None, again: Collection[str] = ()
) -> tuple[LocalDirectory, ...]:
    """Read the named directories, each once, in that order. ``kept``: use the copies there, by
    number, except for those to be read ``again``.

    `UsageError` for one that does not exist, is empty, or contains what no layer can contain or
    what would hide a part of the guest; `StateError` if a copy is gone.
    """
    if kept is None:
        paths = dict.fromkeys(absolute(name) for name in names)
        return tuple(_read(path) for path in paths)
    found = []
    for number, name in enumerate(names):
        if name in again:
            found.append(_read(absolute(name)))
            continue
        root = kept / str(number)
        if not root.is_dir():
            raise StateError(
                f"the kept copy of {name} is gone", where=str(root), hint="xk8s down, xk8s up"
            )
        found.append(LocalDirectory(name=name, root=root, entries=tuple(_entries(root))))
    return tuple(found)


def absolute(name: str) -> Path:
    """Return the directory that a name on the command line means; `UsageError` if there is none."""
    try:
        return Path(name).expanduser().resolve()
    except (RuntimeError, OSError, ValueError) as error:  # ~nobody, a loop of links, a NUL byte
        raise UsageError(f"{name!r} is not a directory: {error}", where="command line") from error


def _read(path: Path) -> LocalDirectory:
    _text(str(path), path)
    # os.path: Path.is_dir raises if the path cannot be accessed.
    if not os.path.isdir(path):  # noqa: PTH112
        there = os.path.exists(path)  # noqa: PTH110
        what = f"{path} is not a directory" if there else f"there is no directory {path}"
        raise UsageError(what, where="command line", hint=_near(path))
    inner = path / ROOT
    root = inner if os.path.isdir(inner) else path  # noqa: PTH112
    entries = tuple(_entries(root))
    if not entries:
        raise UsageError(
            f"the directory {root} is empty",
            where="command line",
            hint="files in it replace those of the guests: etc/motd is /etc/motd",
        )
    return LocalDirectory(name=str(path), root=root, entries=entries)


def _near(path: Path) -> str:
    try:
        beside = [entry.name for entry in os.scandir(path.parent) if entry.is_dir()]
    except OSError:
        beside = []
    return f"{nearest(path.name, beside)}a name that contains a / or a dot is a directory"


def _entries(root: Path) -> Iterator[Entry]:
    """Return files, links and empty directories by path. Only a file's executability is kept: other
    bits of its mode depend on who made it with which umask.
    """
    size = 0
    for count, (path, status) in enumerate(_walk(root)):
        size += status.st_size if stat.S_ISREG(status.st_mode) else 0
        if count >= MOST_ENTRIES or size > MOST_BYTES:
            raise UsageError(
                f"{root} has more than {MOST_ENTRIES} files or {MOST_BYTES >> 30} GiB",
                where="command line",
                hint="name a directory that contains just the files to replace",
            )
        inside = "/" + _text(str(path.relative_to(root)), path)
        entry = _entry(path, status, inside)
        if entry is not None:
            _check_place(entry, path)
            yield entry


def _walk(directory: Path, depth: int = 0) -> Iterator[tuple[Path, os.stat_result]]:
    if depth > MOST_DEPTH:
        raise UsageError(
            f"a directory has more than {MOST_DEPTH} others above it in the one that was named",
            where=f"{str(directory)[:100]}…",
            hint="name a directory that contains just the files to replace",
        )
    try:
        with os.scandir(directory) as found:
            names = sorted(entry.name for entry in found)
        for name in names:
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in LEFT_OUT):
                continue
            path = directory / name
            status = path.lstat()
            yield path, status
            if stat.S_ISDIR(status.st_mode):
                yield from _walk(path, depth + 1)
    except OSError as error:
        raise _unreadable(Path(error.filename or directory), error) from error


def _entry(path: Path, status: os.stat_result, inside: str) -> Entry | None:
    """Return an entry; None for a directory that its content will create."""
    mode = status.st_mode
    if stat.S_ISLNK(mode):
        # Not Path.readlink: it would change how the target is written.
        return Symlink(path=inside, target=_text(os.readlink(path), path))  # noqa: PTH115
    if stat.S_ISREG(mode):
        try:
            data = path.read_bytes()
        except OSError as error:
            raise _unreadable(path, error) from error
        return File(path=inside, data=data, mode=0o755 if mode & 0o111 else 0o644)
    if stat.S_ISDIR(mode):
        return None if any(_walk(path)) else Directory(path=inside)
    kinds = {stat.S_IFSOCK: "a socket", stat.S_IFIFO: "a named pipe"}
    raise UsageError(
        f"{path} is {kinds.get(stat.S_IFMT(mode), 'a device')}",
        where="command line",
        hint="only files, directories and symbolic links can be copied to the guests",
    )


def _check_place(entry: Entry, path: Path) -> None:
    """Raise `UsageError` if the guest would not see it, or if it would hide much else."""
    parts = tuple(part for part in entry.path.split("/") if part)
    top = parts[0]
    if top in MERGED:
        if isinstance(entry, Symlink) and len(parts) == 1 and _same_merge(entry.target, top):
            return  # as the base has it
        raise UsageError(
            f"{path}: /{top} is a link to /usr/{top} in the guests, which this would hide",
            where="command line",
            hint=f"put it at usr/{'/'.join(parts)}",
        )
    if top in _MOUNTED and len(parts) > 1:
        raise UsageError(
            f"{path}: /{top} is created when a guest boots, so nothing in it would be visible",
            where="command line",
            hint="use a file in usr/lib/tmpfiles.d to create things in /run"
            if top == "run"
            else "leave it out",
        )
    if len(parts) == 1 and top in _TOP and not isinstance(entry, Directory):
        raise UsageError(
            f"{path} would hide the directory /{top} of the guests",
            where="command line",
            hint=f"make it a directory with the files to replace in /{top}",
        )
    guest_path(entry.path)


def _same_merge(target: str, top: str) -> bool:
    return target.strip("/") == f"usr/{top}"


def _text(text: str, path: Path) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"{os.fsencode(path)!r}: not UTF-8", where="command line", hint="rename it"
        ) from None
    return text


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"cannot read {path}: {error.strerror}",
        where="command line",
        hint="make it readable, or leave it out",
    )
