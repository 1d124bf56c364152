"""What is in an EROFS image, read without mounting it: names, kinds, modes, and file contents.

Directories and uncompressed files, in both forms that mkfs.erofs gives them (blocks alone, or with
the tail beside the inode): our own images and those of overlays use no other form. The format:
https://docs.kernel.org/filesystems/erofs.html
"""

from __future__ import annotations

import mmap
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from attrs import define, field, frozen

from xk8s.errors import BuildError

_SUPER, _MAGIC = 1024, 0xE0F5E1E2
_SLOT = 32
_DIRENT = struct.Struct("<QHBx")
_PLAIN, _INLINE = 0, 2
_LAYOUTS_OF_48_BITS = 0x80 | 0x100


@frozen(kw_only=True)
class ErofsEntry:
    """A path in an image. ``size`` is in bytes; ``target`` is that of a link, else "". ``device``
    is the number of a device, else 0.
    """

    path: str
    mode: int
    size: int
    target: str = ""
    device: int = 0

    @property
    def kind(self) -> str:
        """file, directory, link, whiteout (the device by which overlayfs hides what is below), or
        other (another device, a socket or pipe).
        """
        if stat.S_ISCHR(self.mode) and self.device == 0:
            return "whiteout"
        kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
        return kinds.get(stat.S_IFMT(self.mode), "other")


@frozen(kw_only=True)
class _Inode:
    mode: int
    size: int
    layout: int
    block: int
    """The first block of the data; the number of a device."""
    tail: int
    """Where data beside the inode begins, in bytes from the image's."""


@define(eq=False)
class ErofsImage:
    """An open image. `open_image` makes it; `BuildError` when it is none or cannot be read."""

    _name: str
    _data: mmap.mmap
    _block: int
    _meta: int
    _root: int
    _known: dict[int, dict[str, int]] = field(factory=dict, init=False)

    def walk(self) -> Iterator[ErofsEntry]:
        """Return all paths but the root, sorted within each directory, parents first."""
        yield from self._walk("", (self._root,))

    def find(self, path: str) -> ErofsEntry | None:
        """Return the entry at an absolute path, or None; links on the way are not followed."""
        inode = self._lookup(path)
        return None if inode is None else self._found(path, inode)

    def read(self, path: str) -> bytes:
        """Return the content of a file; `BuildError` when there is no file at that path."""
        inode = self._lookup(path)
        if inode is None or not stat.S_ISREG(inode.mode):
            what = "is not a file" if inode else "does not exist"
            raise BuildError(f"{path} {what}", where=self._name)
        return self._content(inode)

    def _lookup(self, path: str) -> _Inode | None:
        number = self._root
        for part in PurePosixPath(path).parts[1:]:
            children = self._children(number)
            if part not in children:
                return None
            number = children[part]
        return self._inode(number)

    def _children(self, number: int) -> dict[str, int]:
        """Return entries by name; nothing for anything but a directory."""
        if number not in self._known:
            inode = self._inode(number)
            names = self._names(inode) if stat.S_ISDIR(inode.mode) else ()
            self._known[number] = dict(names)
        return self._known[number]

    def _walk(self, above: str, line: tuple[int, ...]) -> Iterator[ErofsEntry]:
        """``line``: the directory and those that it is in."""
        for name, number in sorted(self._children(line[-1]).items()):
            path, child = f"{above}/{name}", self._inode(number)
            yield self._found(path, child)
            if stat.S_ISDIR(child.mode):
                if number in line:
                    raise self._damaged()
                yield from self._walk(path, (*line, number))

    def _found(self, path: str, inode: _Inode) -> ErofsEntry:
        link = stat.S_ISLNK(inode.mode)
        target = self._content(inode).decode(errors="surrogateescape") if link else ""
        size = 0 if stat.S_ISDIR(inode.mode) else inode.size
        is_device = stat.S_ISCHR(inode.mode) or stat.S_ISBLK(inode.mode)
        device = inode.block if is_device else 0
        return ErofsEntry(path=path, mode=inode.mode, size=size, target=target, device=device)

    def _inode(self, number: int) -> _Inode:
        at = self._meta + number * _SLOT
        try:
            form, xattrs, mode = struct.unpack_from("<HHH", self._data, at)
            length, rest = (64, "<QI") if form & 1 else (32, "<I4xI")
            size, block = struct.unpack_from(rest, self._data, at + 8)
        except (struct.error, OverflowError) as error:
            raise self._damaged() from error
        beside = 12 + 4 * (xattrs - 1) if xattrs else 0
        layout = form >> 1 & 7
        return _Inode(mode=mode, size=size, layout=layout, block=block, tail=at + length + beside)

    def _names(self, directory: _Inode) -> Iterator[tuple[str, int]]:
        content = self._content(directory)
        for start in range(0, len(content), self._block):
            block = content[start : start + self._block]
            try:
                (_, first, _) = _DIRENT.unpack_from(block)
                entries = [_DIRENT.unpack_from(block, at) for at in range(0, first, _DIRENT.size)]
            except struct.error as error:
                raise self._damaged() from error
            if not entries:
                raise self._damaged()
            ends = [offset for _, offset, _ in entries[1:]] + [len(block)]
            for (number, offset, _), end in zip(entries, ends, strict=True):
                name = block[offset:end].split(b"\0")[0].decode(errors="surrogateescape")
                if name not in (".", ".."):
                    yield name, number

    def _content(self, inode: _Inode) -> bytes:
        if inode.layout not in (_PLAIN, _INLINE):
            raise BuildError("compressed data is not read", where=self._name)
        whole = inode.size
        if inode.layout == _INLINE:
            whole -= inode.size % self._block
        start = inode.block * self._block
        content = self._data[start : start + whole]
        content += self._data[inode.tail : inode.tail + inode.size - whole]
        if len(content) != inode.size:
            raise self._damaged()
        return content

    def _damaged(self) -> BuildError:
        return BuildError(
            "the EROFS image is damaged", where=self._name, hint="remove it: it will be made again"
        )


@contextmanager
def open_image(path: Path) -> Iterator[ErofsImage]:
    """The image at ``path``, as long as the block runs."""
    with path.open("rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
            magic, bits, root, meta = struct.unpack_from("<I8xBxH24xI", data, _SUPER)
            (features,) = struct.unpack_from("<I", data, _SUPER + 80)
        except (ValueError, struct.error) as error:  # empty, cut off
            raise BuildError("it is not an EROFS image", where=str(path)) from error
    with data:
        if magic != _MAGIC or features & _LAYOUTS_OF_48_BITS:
            raise BuildError("it is not an EROFS image that can be read here", where=str(path))
        yield ErofsImage(str(path), data, 1 << bits, meta << bits, root)
