"""The files of a report while it is made, and the archive of them."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from attrs import define, field

from xk8s.errors import UsageError, Xk8sError
from xk8s.util.scrub import Scrubber

MAX_FILE = 4 << 20
"""Bytes of one file; of a longer one the end is kept."""
MAX_ALL = 96 << 20
"""Bytes of all files; what comes later is left out, with a note."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")


@define(eq=False)
class Contents:
    """What was collected. Each text goes through ``scrub`` on its way in: there is no other."""

    name: str
    scrub: Scrubber
    files: dict[str, bytes] = field(factory=dict)
    missing: list[str] = field(factory=list)
    _size: int = 0

    def add(self, path: str, text: str) -> None:
        """A file of the report; a path that already exists gets a number."""
        path = _safe(path)
        far = max(0, len(text) - 2 * MAX_FILE)  # too far from the end to be kept in any case
        far = text.find("\n", far) + 1 if far else 0  # half a secret would not be recognised
        data = self.scrub(text[far:]).encode()
        if far or len(data) > MAX_FILE:
            left = max(0, len(data) - MAX_FILE)
            data = f"[the first {far + left} bytes are omitted]\n".encode() + data[left:]
        if self._size + len(data) > MAX_ALL:
            self.missing.append(f"{path}: the report is full")
            return
        self._size += len(data)
        stem, number = path, 1
        while path in self.files:
            number += 1
            path = f"{stem}.{number}"
        self.files[path] = data

    def add_json(self, path: str, value: Any) -> None:
        """The same for data."""
        self.add(path, json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n")

    def miss(self, what: str, why: object) -> None:
        """Note that a part could not be collected, in one line."""
        self.missing.append(self.scrub(f"{what}: {' '.join(str(why).split())}"))

    @contextmanager
    def part(self, what: str) -> Iterator[None]:
        """Collect a part of the report: if it fails, that is noted, and the rest continues."""
        try:
            yield
        except Xk8sError as error:
            self.miss(what, error)
        except Exception as error:  # whatever is broken is what the report is about
            self.miss(what, f"{type(error).__name__}: {error}")

    def archive(self, made: float) -> bytes:
        """Return everything as tar.gz: below one directory, sorted, owned by nobody in
        particular.
        """
        buffer = io.BytesIO()
        with (
            gzip.GzipFile(fileobj=buffer, mode="wb", mtime=int(made)) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for path in sorted(self.files):
                entry = tarfile.TarInfo(f"{self.name}/{path}")
                entry.size, entry.mtime, entry.mode = len(self.files[path]), int(made), 0o600
                archive.addfile(entry, io.BytesIO(self.files[path]))
        return buffer.getvalue()


def default_path(cluster: str, made: float) -> Path:
    """Return the default path of a report, in the working directory."""
    when = time.strftime("%Y%m%d-%H%M%S", time.localtime(made))
    return Path(f"xk8s-report-{cluster}-{when}.tar.gz")


def write(path: Path, make: Callable[[], bytes]) -> None:
    """Write what ``make`` returns to a new file with mode 0600; nothing is left when it raises.

    `UsageError` for an existing file, or a missing directory.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(
            f"{path} already exists", hint="remove it, or name another file with -o"
        ) from None
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}", hint="name another file with -o"
        ) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(make())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _safe(path: str) -> str:
    """A relative path of plain names: overlays and guests give parts of it."""
    parts = [_UNSAFE.sub("-", part).strip("-") for part in PurePosixPath(path).parts]
    return "/".join(part for part in parts if part not in ("", ".", "..")) or "unnamed"
