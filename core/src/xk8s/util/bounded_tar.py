"""Reading a tar archive that may be hostile: bounded in size, members and headers.

tarfile reads whole headers into memory, as long as they say they are, and a compressed archive of
some kilobytes can say terabytes.
"""

from __future__ import annotations

import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from attrs import frozen

from xk8s.errors import ArtifactError
from xk8s.util.inside import MAX_NAME
from xk8s.util.units import size_text

UNREADABLE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    LookupError,
    OverflowError,
    RuntimeError,  # RecursionError, NotImplementedError, and zipfile's own for passwords
)
"""What Python's readers raise when they read damaged archives, besides OSError without errno."""

_MAX_GLOBAL = 64
"""Global headers of pax; each applies to all members behind it."""
_SKIP = 1 << 20


class UnsafeArchive(ArtifactError):
    """The archive would write outside of its target, breaks a limit, or cannot be read."""


@frozen(kw_only=True)
class Limits:
    """Most that an archive may have. ``size``: bytes of its content, unpacked; ``header``: bytes
    that describe one member; ``name``: bytes of a link's target.

    The largest that there is a reason for today are images of some GB, and the sources of Go with
    17,000 files.
    """

    size: int = 16 << 30
    members: int = 200_000
    header: int = 256 << 10
    name: int = MAX_NAME


def bound_size(size: int, limits: Limits, label: str, member: str) -> None:
    """Raise `UnsafeArchive` when so many bytes are more than an archive may have."""
    if size > limits.size:
        raise UnsafeArchive(
            f"{label}: unpacked it has more than {size_text(limits.size)}, the limit, at {member!r}"
        )


def bound_members(number: int, limits: Limits, label: str, member: str) -> None:
    """Raise `UnsafeArchive` when so many members are more than an archive may have."""
    if number > limits.members:
        raise UnsafeArchive(
            f"{label}: it has more than {limits.members} members, the limit, at {member!r}"
        )


@contextmanager
def reading(label: str) -> Iterator[None]:
    """Turn what Python's readers say of damaged archives into `UnsafeArchive`."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:  # of the file system; gzip and bz2 have none
            raise
        raise UnsafeArchive(f"{label}: the archive cannot be read: {error}") from error
    except UNREADABLE as error:
        raise UnsafeArchive(f"{label}: the archive cannot be read: {error}") from error


class Forward:
    """A pipe that can be "sought" forward."""

    def __init__(self, stream: IO[bytes]) -> None:
        """``stream``: what is read; it is not closed."""
        self._stream = stream
        self._at = 0

    def read(self, size: int = -1, /) -> bytes:
        """Read as a file does."""
        data = self._stream.read(size)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Skip to ``offset``; ValueError for what lies behind."""
        if whence != io.SEEK_SET or offset < self._at:
            raise ValueError("a pipe is read once")
        while self._at < offset and self.read(min(_SKIP, offset - self._at)):
            pass
        return self._at

    def tell(self) -> int:
        """Return how much was read."""
        return self._at


class _Bounded:
    """Counts what is read and where: ``budget`` bytes until `grant`, ``limits.size`` in all."""

    def __init__(self, stream: IO[bytes] | Forward, label: str, limits: Limits) -> None:
        self._stream = stream
        self._label = label
        self._limits = limits
        self._budget: int | None = None
        self.member = ""

    def grant(self, budget: int | None) -> None:
        self._budget = budget

    def read(self, size: int = -1, /) -> bytes:
        if self._budget is not None:
            if not 0 <= size <= self._budget:
                raise UnsafeArchive(
                    f"{self._label}: the header of a member has more than "
                    f"{size_text(self._limits.header)}, the limit, after {self.member!r}"
                )
            self._budget -= size
        data = self._stream.read(size)
        self._check(self._stream.tell())
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if whence == io.SEEK_SET:
            self._check(offset)
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def _check(self, position: int) -> None:
        bound_size(position, self._limits, self._label, self.member)


class BoundedTar(tarfile.TarFile):
    """A tar archive that is read once, front to back. It keeps no list of its members."""

    def __init__(self, stream: IO[bytes] | Forward, label: str, limits: Limits) -> None:
        """``label``: what errors call it. `UnsafeArchive` if it is not a tar."""
        self.label = label
        self.limits = limits
        self._number = 0
        self._bounded = _Bounded(stream, label, limits)
        with reading(label):
            file: Any = self._bounded  # tarfile needs no more of a file than this has
            super().__init__(fileobj=file, mode="r")

    def next(self) -> tarfile.TarInfo | None:
        """Return the next member, or None; `UnsafeArchive` when it breaks a limit."""
        if getattr(self, "firstmember", None) is not None:
            return super().next()
        self.members: list[tarfile.TarInfo] = []
        self._bounded.grant(self.limits.header)
        with reading(self.label):
            member = super().next()
        self._bounded.grant(None)
        if member is None:
            return None
        self._number += 1
        self._bounded.member = member.name[:MAX_NAME]
        if member.size < 0:  # the next one would be this one again
            raise UnsafeArchive(f"{self.label}: {self._bounded.member!r} has less than no bytes")
        bound_members(self._number, self.limits, self.label, self._bounded.member)
        if len(self.pax_headers) > _MAX_GLOBAL:
            raise UnsafeArchive(
                f"{self.label}: it has more than {_MAX_GLOBAL} global headers, the limit, before "
                f"{self._bounded.member!r}"
            )
        return member

    def drain(self) -> None:
        """Read what is behind the last member."""
        with reading(self.label):
            while self._bounded.read(_SKIP):
                pass
