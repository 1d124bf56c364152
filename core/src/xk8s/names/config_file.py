"""The settings file: the one of the current directory, or the one that the user named.

A file of the current directory counts without being asked for, like a Makefile. So those of its
settings that give power over this machine take the user's trust, once for each content of the file.
"""

from __future__ import annotations

import hashlib
import os
import select
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from xk8s.errors import UsageError

CONFIG_FILE = "xk8s.toml"
_LONGEST = 1 << 20

_read_once: dict[tuple[int, int], bytes] = {}
"""What pipes said, by device and inode: `--config <(…)` can be read a single time."""


class ConfigFile(NamedTuple):
    """A settings file. ``found``: nobody named it, it lies in the current directory."""

    path: Path
    content: bytes
    found: bool

    def tables(self) -> Mapping[str, Mapping[str, Any]]:
        """Return its tables by name; `UsageError` when it is not TOML of tables alone."""
        where = str(self.path)
        try:
            tables = tomllib.loads(self.content.decode())
        except RecursionError:
            raise UsageError("not TOML: it is nested too deeply", where=where) from None
        except ValueError as error:
            raise UsageError(f"not TOML: {error}", where=where) from error
        for name, table in tables.items():
            if not isinstance(table, dict):
                raise UsageError(
                    f"{name!r} stands outside of a table", where=where, hint="write [overlay]"
                )
        return tables

    def check_trusted(self, key: str) -> None:
        """Raise `UsageError` if it may not set ``key``, which gives power over this machine."""
        if self.found and not self._mark.exists():
            raise UsageError(
                f"{key} gives power over this machine, and this file is not trusted",
                where=str(self.path.absolute()),
                hint=f"read it, then run `xk8s trust`, or name it: --config {CONFIG_FILE}",
            )

    def trust(self) -> None:
        """Let this content of this file set everything."""
        from xk8s.util.paths import make_private

        make_private(self._mark.parent)
        self._mark.touch(mode=0o600)

    def distrust(self) -> None:
        """Take that back."""
        self._mark.unlink(missing_ok=True)

    @property
    def _mark(self) -> Path:
        from xk8s.util.paths import clusters_dir

        place = os.fsencode(self.path.resolve())
        name = hashlib.sha256(place + b"\0" + self.content).hexdigest()
        return clusters_dir().parent / "trusted" / name


def read_config(path: Path | None) -> ConfigFile | None:
    """Read a file that the user named, or for None that of the current directory if there is one.
    `UsageError` when it cannot be read.
    """
    found = path is None
    path = path or Path(CONFIG_FILE)
    if found and not os.path.lexists(path):
        return None
    try:
        content = _content(path, pipes=not found)
    except OSError as error:
        why = f"cannot read it: {error.strerror}"
        if path.is_symlink() and not path.exists():
            why = f"it is a link to {path.readlink()}, which does not exist"
        raise UsageError(why, where=str(path)) from error
    if len(content) > _LONGEST:
        raise UsageError(f"it is longer than {_LONGEST >> 20} MiB", where=str(path))
    return ConfigFile(path=path, content=content, found=found)


def _content(path: Path, *, pipes: bool) -> bytes:
    # O_NONBLOCK: a pipe that nobody writes to must not be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            return file.read(_LONGEST + 1) or b""
        if not pipes:
            raise UsageError("it is not a regular file", where=str(path))
        key = (status.st_dev, status.st_ino)
        if key not in _read_once:
            _read_once[key] = _until_end(descriptor)
        content = _read_once[key]
    if not content and stat.S_ISFIFO(status.st_mode):
        raise UsageError("nobody wrote anything to it", where=str(path))
    return content


def _until_end(descriptor: int) -> bytes:
    content = b""
    while len(content) <= _LONGEST:
        try:
            data = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            select.select([descriptor], [], [])
            continue
        if not data:
            break
        content += data
    return content
