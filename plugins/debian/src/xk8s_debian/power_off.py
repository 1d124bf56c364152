"""A program of 168 bytes that switches off the VM that it runs in.

It does what the kernel would do at the end of its way down, which it never reaches (see
``files/config/usr/lib/xk8s/shutdown``): ACPI's state S5 is requested from the q35 machine. The
kernel has no /dev/port, and nothing in the base system can write to a port.
"""

from __future__ import annotations

import struct

from xk8s.overlay import File

_LOAD = 0x400000
_CODE = bytes.fromhex(
    "b8ad000000"  # mov eax, 173: ioperm(…)
    "bf04060000"  # mov edi, 0x604: register PM1a_CNT
    "be02000000"  # mov esi, 2
    "ba01000000"  # mov edx, 1
    "0f05"  # syscall
    "85c0750a"  # test eax, eax; jnz failed
    "66ba0406"  # mov dx, 0x604
    "66b80020"  # mov ax, 0x2000: SLP_EN, SLP_TYP 0
    "66ef"  # out dx, ax
    "bf01000000"  # failed: mov edi, 1
    "b83c000000"  # mov eax, 60: exit(…)
    "0f05"  # syscall
)


def power_off() -> File:
    """Return the program: an ELF header, one segment, and its code."""
    header = 64 + 56
    size = header + len(_CODE)
    elf = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01", 2, 62, 1, _LOAD + header, 64, 0, 0, 64, 56, 1, 0, 0, 0,
    )  # fmt: skip
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _LOAD, _LOAD, size, size, 0x1000)
    return File(path="/usr/lib/xk8s/power-off", data=elf + segment + _CODE, mode=0o755)
