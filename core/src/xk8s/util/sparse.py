"""Contents of large sparse files: copied without their holes, summed up, and made to stay.

The sum is a CRC-32 (SHA-256 would take twice as long as the copy): it is there to find damage,
and whoever could change a snapshot on purpose could change its description as well.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 64 << 10
_PAGE = 4 << 10
_ZEROS = bytes(_BLOCK)


def sparse_copy(source: Path, target: Path, *, flush: bool = True) -> str:
    """Copy a file without its holes to a new one with mode 0600, which is on the disk then (unless
    ``flush`` is False). Its `content_sum`.
    """
    total = 0
    with source.open("rb") as given, open(target, "xb", opener=_private) as made:
        size = os.fstat(given.fileno()).st_size
        os.ftruncate(made.fileno(), size)
        for offset, data in _blocks(given.fileno(), size):
            total = _add(total, offset, data)
            start = (len(data) - len(data.lstrip(b"\0"))) // _PAGE * _PAGE
            end = -(-len(data.rstrip(b"\0")) // _PAGE) * _PAGE
            part = data[start:end]
            if os.pwrite(made.fileno(), part, offset + start) != len(part):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        if os.fstat(given.fileno()).st_size != size:
            raise OSError(f"{source} changed its size while it was copied")
        if flush:
            os.fsync(made.fileno())
    return f"{total:08x}"


def content_sum(path: Path) -> str:
    """CRC-32 of what a file has, in hex; zeros are the same as holes."""
    total = 0
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        for offset, data in _blocks(file.fileno(), size):
            total = _add(total, offset, data)
    return f"{total:08x}"


def _add(total: int, offset: int, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(offset.to_bytes(8, "little"), total))


def _blocks(fd: int, size: int) -> Iterator[tuple[int, bytes]]:
    """Offset and content of each block that has more than zeros."""
    done = 0
    for start, end in _data(fd, size):
        for offset in range(max(done, start // _BLOCK * _BLOCK), end, _BLOCK):
            data = os.pread(fd, _BLOCK, offset)
            done = offset + _BLOCK
            if data != _ZEROS[: len(data)]:
                yield offset, data


def _data(fd: int, size: int) -> Iterator[tuple[int, int]]:
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # it: a hole to the end
                raise
            return
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, end


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
