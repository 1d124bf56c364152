"""Rules for the values that hooks return, beyond their types: names, paths, numbers, duplicates.

What breaks one of them would otherwise fail much later, in a guest or in QEMU, where nothing says
whose mistake it was.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

from xk8s.overlay import (
    BootImage,
    BootOptions,
    Check,
    Entry,
    Fault,
    File,
    GuestNeeds,
    KernelNeeds,
    Layer,
    LogFiles,
    Observation,
    Overlay,
    Symlink,
    Take,
)
from xk8s.util.guest_paths import guest_path

LAYER_OF_NODES = "node"
"""The name of the layer with a node's own files, which no overlay's layer can have."""

_LAYER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_UNIT = re.compile(
    r"[A-Za-z0-9:_.@\\-]+\.(automount|mount|path|scope|service|slice|socket|swap|target|timer)"
)
_MODULE = re.compile(r"[A-Za-z0-9_-]+")
_LOG_FIELDS = frozenset({"name", "scope", "part"})
_MAX_PORT = 65535
_VOLUME = re.compile(r"[a-z0-9-]{1,16}")
_VOLUME_PATH = re.compile(r"(/[A-Za-z0-9_.-]+)+")
_VOLUME_SIZES = range(32, (4 << 20) + 1)
"""MiB: a journal does not fit into smaller ones."""


def problem(value: object) -> str | None:
    """Return what is wrong with a value whose types are right, or None."""
    for kind, rule in _RULES.items():
        if isinstance(value, kind):
            return next(rule(value), None)
    return None


def duplicate(values: Iterable[object]) -> str | None:
    """Return which two of the values of one hook have the same name, or None."""
    seen: set[tuple[type, str]] = set()
    for value in values:
        if not isinstance(value, (Check, Fault, Layer, Observation)):
            continue
        key = type(value), value.name
        if key in seen:
            return f"two {type(value).__name__} values named {value.name!r}"
        seen.add(key)
    return None


def _overlay(value: Overlay) -> Iterator[str]:
    needed = {*value.requires, *value.completed_by}
    for capability in value.defaults:
        if capability not in needed:
            yield f"defaults name {capability!r}, which it neither requires nor is completed by"
    for other in value.conflicts:
        if other in needed:
            yield f"conflicts name {other!r}, which it needs as well"


def _layer(value: Layer) -> Iterator[str]:
    if not _LAYER.fullmatch(value.name) or value.name == LAYER_OF_NODES:
        yield (
            f"name {value.name!r} cannot be a layer's: letters, digits, '.', '_' and '-' make one, "
            f"and {LAYER_OF_NODES!r} is taken"
        )
    if value.image is not None and value.entries:
        yield "image and entries are both given: a layer is one or the other"
    for prefix in value.replaces:
        yield from _path("replaces", prefix)
    yield from _units("units", value.units)
    if value.image is not None:
        yield from _member("image", value.image)
    for index, entry in enumerate(value.entries):
        yield from _entry(f"entries[{index}]", entry)


def _entry(where: str, value: Entry) -> Iterator[str]:
    """Owners of paths are checked with the whole stack of layers."""
    for wrong in _path(f"{where}.path", value.path):
        yield f"{wrong} (paths in layers are absolute and without '.' and '..')"
    if isinstance(value, (File, Symlink)) and not value.path.strip("/"):
        yield f"{where}.path: {value.path!r} is a directory"
    yield from _mode(where, value)
    if isinstance(value, (File, Take)) and value.units:
        yield from _units(f"{where}.units", value.units)
    if isinstance(value, Symlink) and (not value.target or "\0" in value.target):
        yield f"{where}.target is {value.target!r}"
    if isinstance(value, Take):
        yield from _member(where, value)


def _mode(where: str, value: Entry) -> Iterator[str]:
    mode = None if isinstance(value, Symlink) else value.mode
    if mode is not None and not 0 <= mode <= 0o7777:
        yield f"{where}.mode is {mode}, not permission bits (0 to 0o7777)"


def _file(value: File) -> Iterator[str]:
    """A node's own file, a secret, or a file for the host, whose paths the registry checks."""
    yield from _mode("File", value)


def _member(where: str, take: Take) -> Iterator[str]:
    """A member is one of the artifact's, a directory above some, or a path below one."""
    wanted = PurePosixPath(take.member)
    artifact = take.artifact
    if wanted.is_absolute() or ".." in wanted.parts or not take.member:
        yield f"{where}.member is {take.member!r}, not a path in the artifact's tree"
        return
    for name in artifact.members:
        known = PurePosixPath(name)
        if wanted.is_relative_to(known) or known.is_relative_to(wanted):
            return
    yield (
        f"{where}.member is {take.member!r}, which artifact {artifact.name} does not have; it has "
        f"{', '.join(artifact.members) or 'none'}"
    )


def _kernel(value: KernelNeeds) -> Iterator[str]:
    for symbol in value.config:
        if symbol.startswith("CONFIG_") or not symbol.replace("_", "a").isalnum():
            yield f"config has {symbol!r}: write a symbol, without CONFIG_"
    for module in (*value.modules, *value.load):
        if not _MODULE.fullmatch(module):
            yield f"modules have {module!r}, which cannot be the name of a module"
    known = {module.replace("-", "_") for module in value.modules}
    for module in value.load:
        if module.replace("-", "_") not in known:
            yield f"load has {module!r}, which is not among modules"


def _boot(value: BootOptions) -> Iterator[str]:
    yield from _arguments("kernel_args", value.kernel_args, "\0\n")
    yield from _arguments("qemu_args", value.qemu_args, "\0")
    for forward in value.forwards:
        if not forward.name:
            yield "a forward has no name"
        if not 1 <= forward.guest_port <= _MAX_PORT:
            yield f"forward {forward.name!r}: guest_port is {forward.guest_port}, not 1 to 65535"
        if not 0 <= forward.preferred <= _MAX_PORT:
            yield f"forward {forward.name!r}: preferred is {forward.preferred}, not 0 to 65535"
    names = [forward.name for forward in value.forwards]
    if len({*names}) < len(names):
        yield "two forwards have one name"
    for volume in value.volumes:
        if not _VOLUME.fullmatch(volume.name):
            yield f"volume {volume.name!r}: its name is not 1 to 16 of a to z, 0 to 9 and -"
        if not _VOLUME_PATH.fullmatch(volume.path) or "/." in volume.path:
            yield f"volume {volume.name!r}: {volume.path!r} is not an absolute, plain path"
        if volume.size not in _VOLUME_SIZES:
            yield f"volume {volume.name!r}: {volume.size} MiB; it takes 32 MiB to 4 TiB"


def _boot_image(value: BootImage) -> Iterator[str]:
    yield from _arguments("kernel_args", value.kernel_args, "\0\n")
    yield from _member("kernel", value.kernel)
    yield from _member("initramfs", value.initramfs)


def _check(value: Check) -> Iterator[str]:
    if not value.name.strip() or not value.name.isprintable():
        yield f"name is {value.name!r}"
    yield from _seconds("timeout", value.timeout)
    yield from _seconds("interval", value.interval)


def _observation(value: Observation) -> Iterator[str]:
    if not value.argv or not value.argv[0]:
        yield "argv names no program"
    yield from _arguments("argv", value.argv[1:], "\0", empty=True)
    yield from _seconds("timeout", value.timeout)


def _log_files(value: LogFiles) -> Iterator[str]:
    if not value.kind or "/" in value.kind:
        yield f"kind is {value.kind!r}"
    yield from _path("directory", value.directory)
    if not value.paths:
        yield "paths is empty"
    for pattern in value.paths:
        try:
            parts = string.Formatter().parse(pattern)
            fields = {name for _, name, _, _ in parts if name is not None}
        except ValueError as error:
            yield f"paths has {pattern!r}: {error}"
            continue
        if unknown := sorted(fields - _LOG_FIELDS):
            yield f"paths has {{{unknown[0]}}}, not one of {{name}}, {{scope}}, {{part}}"


def _guest(value: GuestNeeds) -> Iterator[str]:
    for path in value.files:
        yield from _path("files", path)
    for program in value.programs:
        if not program or "/" in program:
            yield f"programs has {program!r}, not a name that is looked for in the PATH"


def _path(where: str, path: str) -> Iterator[str]:
    try:
        guest_path(path)
    except ValueError as error:
        yield f"{where}: {error}"


def _units(where: str, units: Iterable[str]) -> Iterator[str]:
    for unit in units:
        if not _UNIT.fullmatch(unit):
            yield f"{where} has {unit!r}, which is not the name of a systemd unit with its type"


def _arguments(
    where: str, values: Iterable[str], forbidden: str, *, empty: bool = False
) -> Iterator[str]:
    for value in values:
        if any(letter in value for letter in forbidden) or not (value or empty):
            yield f"{where} has {value!r}"


def _seconds(where: str, value: float) -> Iterator[str]:
    if not math.isfinite(value) or value < 0:
        yield f"{where} is {value}, not a number of seconds"


_RULES: dict[type, Callable[[Any], Iterator[str]]] = {
    Overlay: _overlay,
    Layer: _layer,
    File: _file,
    KernelNeeds: _kernel,
    BootOptions: _boot,
    BootImage: _boot_image,
    Check: _check,
    Observation: _observation,
    LogFiles: _log_files,
    GuestNeeds: _guest,
}

__all__ = ["LAYER_OF_NODES", "duplicate", "problem"]
