"""JSON files of the state, read with their version and types compared.

A file that cannot be read is an error with a way out. It never means that the
cluster does not exist, and never gives a value of the wrong kind.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import cattrs

from xk8s.errors import StateError
from xk8s.util.paths import clusters_dir, snapshots_root

T = TypeVar("T")

DAMAGED = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    OverflowError,
    RecursionError,
    cattrs.BaseValidationError,
)
"""What a damaged JSON file, or one with another content, may raise while it is read."""


def read_document(
    path: Path,
    cls: type[T],
    *,
    version: int,
    what: str,
    converter: cattrs.Converter | None = None,
    valid: Callable[[T], bool] = lambda _: True,
) -> T:
    """Return the value of a file that has a ``version``; ``what`` is known from it, in words.
    `StateError` when it is missing, damaged, of another version or not ``valid``.
    """
    try:
        data = json.loads(path.read_text())
        found = data["version"]
        if type(found) is int and found != version:
            raise StateError(
                f"{what}: a different version of xk8s wrote {path.name}",
                where=str(path),
                hint=way_out(path),
            )
        value = structure(data, cls, converter)
        if type(found) is not int or not valid(value):
            raise ValueError
    except DAMAGED as error:
        missing = isinstance(error, FileNotFoundError)
        raise StateError(
            f"{what}: {path.name} is {'missing' if missing else 'damaged'}",
            where=str(path),
            hint=way_out(path),
        ) from error
    return value


def structure(data: object, cls: type[T], converter: cattrs.Converter | None = None) -> T:
    """Return ``data`` as a value of ``cls``. Unlike cattrs alone, it converts nothing: a number in
    place of a text raises one of `DAMAGED`.
    """
    converter = converter or _plain
    value = converter.structure(data, cls)
    if not _same(data, json.loads(json.dumps(converter.unstructure(value)))):
        raise ValueError(f"it is not the data of a {cls.__name__}")
    return value


def way_out(path: Path) -> str:
    """Return what to do about a file of a cluster's state or of a snapshot that cannot be read."""
    if path.parent.parent == clusters_dir():
        return f"`xk8s down --name {path.parent.name}` ends what runs of it, then `xk8s up`"
    if path.parent.parent.parent == snapshots_root():
        cluster, label = path.parent.parent.name, path.parent.name
        return f"xk8s snapshot remove --name {cluster} {label}"
    return "xk8s down, then xk8s up"


_plain = cattrs.Converter()


def _same(found: object, written: object) -> bool:
    """Whether what was ``found`` in a file is what would be ``written`` now. What is missing there
    has its default.
    """
    if isinstance(found, Mapping) and isinstance(written, Mapping):
        return all(key in written and _same(found[key], written[key]) for key in found)
    if isinstance(found, list) and isinstance(written, list):
        return len(found) == len(written) and all(map(_same, found, written))
    if type(found) is int and type(written) is float:
        return found == written
    return type(found) is type(written) and found == written
