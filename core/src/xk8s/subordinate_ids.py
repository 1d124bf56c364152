"""Subordinate user and group ids of this user: the rule for /etc/subuid and /etc/subgid."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

NEEDED = 65536
"""Ids that one range must have: a user namespace maps a range, it cannot join two."""

FILES = (Path("/etc/subuid"), Path("/etc/subgid"))


def login() -> str:
    """Return this user's name, or the number for a user without one."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def has_range(path: Path) -> bool:
    """Return whether ``path`` gives this user, by name or by number, a range of `NEEDED` ids."""
    return largest_range(path) >= NEEDED


def largest_range(path: Path) -> int:
    """Return the size of this user's largest range in ``path``; 0 where there is none."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    names = {login(), str(os.getuid())}
    ranges = (line.split(":") for line in lines)
    return max(
        (
            int(fields[2])
            for fields in ranges
            if len(fields) == 3 and fields[0] in names and fields[2].isdecimal()
        ),
        default=0,
    )


def remedy() -> str:
    """Return the command by which root gives this user such a range."""
    ids = f"100000-{100000 + NEEDED - 1}"
    return f"usermod --add-subuids {ids} --add-subgids {ids} {login()}"
