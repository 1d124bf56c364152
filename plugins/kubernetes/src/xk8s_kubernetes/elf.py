"""Properties of an ELF file that decide where it can run, read without running it."""

from __future__ import annotations

import mmap
import re
import struct
from pathlib import Path

from attrs import frozen

X86_64 = 62
_MACHINES = {3: "x86", 40: "arm", 62: "x86-64", 183: "arm64", 21: "ppc64", 22: "s390x",
             243: "riscv64", 258: "loongarch64"}  # fmt: skip
_EXECUTABLE = (2, 3)
"""File types ET_EXEC and ET_DYN: a position-independent program is the latter."""
_LOAD, _DYNAMIC, _INTERP = 1, 2, 3
_NEEDED, _STRTAB, _STRSZ = 1, 5, 10
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM = struct.Struct("<IIQQQQQQ")
_ENTRY = struct.Struct("<qQ")


class NotElf(Exception):
    """The file is not a 64-bit little-endian ELF program; the message says what it is."""


@frozen(kw_only=True)
class Elf:
    """An ELF program. ``interpreter`` is the dynamic loader, "" for a static program; ``needed``
    the libraries that it loads; ``glibc`` the newest version of glibc's symbols that it needs, (0,
    0) for none.
    """

    machine: int
    interpreter: str = ""
    needed: tuple[str, ...] = ()
    glibc: tuple[int, int] = (0, 0)

    @property
    def architecture(self) -> str:
        """The machine's name as people write it."""
        return _MACHINES.get(self.machine, f"machine {self.machine}")


def read_elf(path: Path) -> Elf:
    """Read the headers. `NotElf` for anything other than a program for a 64-bit machine."""
    with path.open("rb") as stream:
        if stream.read(4) != b"\x7fELF":
            stream.seek(0)
            raise NotElf(_kind(stream.read(64)))
        stream.seek(0)
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _parse(data)
            except (struct.error, IndexError, OverflowError) as error:
                raise NotElf("a damaged ELF file: is a build still writing it?") from error


def _kind(start: bytes) -> str:
    if not start:
        return "an empty file"
    if start.startswith(b"#!"):
        return f"a script ({start.splitlines()[0].decode(errors='replace')})"
    if start.startswith(b"MZ"):
        return "a program for Windows"
    if start[:4] in (b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe"):
        return "a program for macOS"
    return "not a program"


def _parse(data: mmap.mmap) -> Elf:
    ident, kind, machine, _, _, start, *_, size, count, _, _, _ = _HEADER.unpack_from(data)
    if ident[4:6] != b"\x02\x01":
        raise NotElf("not a 64-bit little-endian ELF file")
    if kind not in _EXECUTABLE:
        raise NotElf("an ELF file, but not a program")
    programs = [_PROGRAM.unpack_from(data, start + size * index) for index in range(count)]
    interpreter = ""
    dynamic: list[tuple[int, int]] = []
    for type_, _, offset, _, _, length, *_ in programs:
        if offset + length > len(data):
            raise IndexError("a segment extends beyond the file")
        if type_ == _INTERP:
            interpreter = data[offset : offset + length].rstrip(b"\0").decode(errors="replace")
        elif type_ == _DYNAMIC:
            dynamic = list(_ENTRY.iter_unpack(data[offset : offset + length // 16 * 16]))
    if not interpreter:
        return Elf(machine=machine)
    strings = _strings(data, programs, dict(dynamic))
    needed = tuple(
        strings[value : strings.index(b"\0", value)].decode(errors="replace")
        for tag, value in dynamic
        if tag == _NEEDED
    )
    versions = [(int(a), int(b)) for a, b in re.findall(rb"GLIBC_(\d+)\.(\d+)", strings)]
    return Elf(
        machine=machine,
        interpreter=interpreter,
        needed=needed,
        glibc=max(versions, default=(0, 0)),
    )


def _strings(data: mmap.mmap, programs: list[tuple[int, ...]], dynamic: dict[int, int]) -> bytes:
    """Return the dynamic string table; its address is one in memory."""
    address, length = dynamic[_STRTAB], dynamic[_STRSZ]
    for type_, _, offset, virtual, _, size, *_ in programs:
        if type_ == _LOAD and virtual <= address < virtual + size:
            begin = offset + address - virtual
            return data[begin : begin + length]
    raise IndexError("no segment contains the string table")
