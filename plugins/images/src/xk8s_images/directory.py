"""An image from a directory of files: its root file system, and image.json for the rest.

Only names, contents, links and executability of the files count; the owner is root
and time 0, so the same files give the same image on every machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import frozen
from xk8s.errors import UsageError, nearest
from xk8s.files import fingerprints, walk

from xk8s_images.layout import Member

CONFIG = "image.json"
_LISTS = ("entrypoint", "cmd", "env")
_TEXTS = ("workdir", "user")


@frozen(kw_only=True)
class ImageConfig:
    """What image.json may say: how the image runs. ``env`` are NAME=value."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""


def identity(directory: Path) -> str:
    """Return ``sha256:…`` over everything in the image. `UsageError` says what cannot be in one."""
    read_config(directory)
    members = list(_files(directory))
    regular = [path for path, mode in members if stat.S_ISREG(mode)]
    digests = fingerprints().about([*regular, *_config_file(directory)])
    total = hashlib.sha256()
    for path, mode in members:
        what = f"{_bits(mode):o}"
        if stat.S_ISLNK(mode):
            what = os.readlink(path)  # noqa: PTH115 - Path would normalise it
        name = path.relative_to(directory).as_posix()
        total.update(os.fsencode(f"{name}\0{what}\0{digests.get(path, '')}\0"))
    total.update(digests.get(directory / CONFIG, "").encode())
    return f"sha256:{total.hexdigest()}"


def members(directory: Path) -> Iterator[Member]:
    """Return the files as members of a layer."""
    for path, mode in _files(directory):
        name = path.relative_to(directory).as_posix()
        if stat.S_ISLNK(mode):
            yield Member(path=name, target=os.readlink(path))  # noqa: PTH115
        elif stat.S_ISDIR(mode):
            yield Member(path=name, mode=_bits(mode))
        else:
            yield Member(path=name, mode=_bits(mode), file=path)


def read_config(directory: Path) -> ImageConfig:
    """Return image.json, or the defaults without one. `UsageError` for anything it must not
    contain.
    """
    path = directory / CONFIG
    if not directory.is_dir():
        what = "is not a directory" if directory.exists() else "does not exist"
        raise UsageError(f"{what}: {directory}", hint="relative paths begin where the command runs")
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        return ImageConfig()
    except (OSError, ValueError) as error:
        raise UsageError(f"it cannot be read: {error}", where=str(path)) from error
    if not isinstance(data, dict):
        raise UsageError("it must be a JSON object", where=str(path))
    return ImageConfig(**{key: _value(path, key, value) for key, value in data.items()})


def _value(path: Path, key: str, value: Any) -> Any:
    known = (*_LISTS, *_TEXTS)
    if key not in known:
        raise UsageError(
            f"unknown key {key!r}",
            where=str(path),
            hint=f"{nearest(key, known)}it may have {', '.join(known)}",
        )
    if key in _TEXTS:
        if isinstance(value, str) and (key != "workdir" or value.startswith("/")):
            return value
        what = "an absolute path" if key == "workdir" else "a string"
        raise UsageError(f"{key} must be {what}, not {json.dumps(value)}", where=str(path))
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UsageError(
            f"{key} must be a list of strings, not {json.dumps(value)}",
            where=str(path),
            hint=f'"{key}": ["one", "two"]',
        )
    if key == "env" and (wrong := [item for item in value if "=" not in item.lstrip("=")]):
        raise UsageError(f"env has {wrong[0]!r}", where=str(path), hint="write NAME=value")
    return tuple(value)


def _config_file(directory: Path) -> list[Path]:
    path = directory / CONFIG
    return [path] if path.is_file() else []


def _files(directory: Path) -> Iterator[tuple[Path, int]]:
    """Return everything in the image with its st_mode, by name."""
    for path in walk(directory):
        if path == directory / CONFIG:
            continue
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
            raise UsageError(
                f"{path} is neither file, directory nor symbolic link",
                hint="an image built from a directory has nothing else",
            )
        yield path, mode


def _bits(mode: int) -> int:
    # Git, umasks and editors change the other bits; a sticky directory is /tmp.
    if stat.S_ISDIR(mode):
        return 0o1777 if mode & stat.S_ISVTX else 0o755
    return 0o755 if mode & 0o111 else 0o644
