"""Writing initramfs archives: cpio "newc", everything owned by root, without times.

Our own few lines, for `cpio` needs a tree with the right owners and device nodes on disk, which
only root can make. Format: Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable

from attrs import frozen


@frozen(kw_only=True)
class Entry:
    """A member: path without leading slash, full st_mode, contents (a link's target)."""

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory(path: str) -> Entry:
    """Return a directory, mode 0755."""
    return Entry(path=path, mode=stat.S_IFDIR | 0o755)


def regular(path: str, data: bytes, mode: int = 0o644) -> Entry:
    """Return a regular file."""
    return Entry(path=path, mode=stat.S_IFREG | mode, data=data)


def symlink(path: str, target: str) -> Entry:
    """Return a symbolic link."""
    return Entry(path=path, mode=stat.S_IFLNK | 0o777, data=target.encode())


def character_device(path: str, major: int, minor: int) -> Entry:
    """Return a character device, mode 0600."""
    return Entry(path=path, mode=stat.S_IFCHR | 0o600, device=(major, minor))


def archive(entries: Iterable[Entry]) -> bytes:
    """Return the archive, members in the given order (a directory must come before its content)."""
    parts = [_member(number, entry) for number, entry in enumerate(entries, start=1)]
    parts.append(_member(0, Entry(path="TRAILER!!!", mode=0)))
    image = b"".join(parts)
    return image + b"\0" * (-len(image) % 512)


def _member(inode: int, entry: Entry) -> bytes:
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (
        inode,
        entry.mode,
        0,  # uid
        0,  # gid
        links,
        0,  # mtime
        len(entry.data),
        0,  # device of the file system, major and minor
        0,
        *entry.device,
        len(name),
        0,  # checksum, unused in newc
    )
    head = b"070701" + b"".join(b"%08X" % value for value in fields) + name
    return head + b"\0" * (-len(head) % 4) + entry.data + b"\0" * (-len(entry.data) % 4)
