"""The contract ``xk8s.v1`` as a flat table, to be compared with the one that is kept:
``python tools/docs contract [--accept-breaks] FILE``.

docs/reference/compatibility.md says what the table means to authors of overlays.
"""

from __future__ import annotations

import inspect
import json
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
from xk8s import hookspecs
from xk8s.errors import Xk8sError
from xk8s.names.discovery import COMMANDS_GROUP, OVERLAYS_GROUP
from xk8s.planning.points import CORE_POINTS
from xk8s.util.typecheck import name as type_name

PUBLIC: Mapping[str, tuple[str, ...]] = {
    "xk8s": ("hookimpl",),
    "xk8s.overlay": (),
    "xk8s.context": ("ClusterAccess", "Context", "ExecResult", "IpFamily"),
    "xk8s.checks": ("CheckContext", "NotYet"),
    "xk8s.errors": (),
    "xk8s.sources": (),
    "xk8s.artifact_keys": ("artifact_key", "is_cached"),
    "xk8s.recipe": ("RecipeContext", "Inspection"),
    "xk8s.files": (
        "ZSTD", "Limits", "UnsafeArchive", "file_digest", "fingerprints", "open_tar", "unpack",
        "walk",
    ),
    "xk8s.releases": ("why_unavailable",),
    "xk8s.image_reference": ("DIGEST", "split_ref"),
    "xk8s.image_tags": ("pinned",),
    "xk8s.apt": (
        "KEYRING", "host_mirror", "index_targets", "require_keyring", "require_mirror",
    ),
    "xk8s.subordinate_ids": ("FILES", "NEEDED", "has_range", "login", "remedy"),
    "xk8s.addresses": ("HOST_PART", "address"),
    "xk8s.fragments": (),
    "xk8s.limits": (),
    "xk8s.own_programs": (),
    "xk8s.pki": ("Keys", "Pair"),
    "xk8s.progress": ("Progress",),
    "xk8s.render": (),
    "xk8s.testing": ("assert_conforms", "plan_of", "plugin"),
    "xk8s.verbs": (
        "KeyRotation", "ListingGroup", "Session", "cluster_option", "complete_nodes",
        "echo", "json_option", "pass_session", "print_json", "table",
    ),
}  # fmt: skip
"""Names that authors of overlays may import: module -> names; none means all without underscore."""

_ALIASES = {"xk8s.overlay": ("Entry", "Role")}
"""Types whose module Python does not reveal."""

REQUIRED = "required"


def contract() -> dict[str, str]:
    """Map each name to what is promised, for every hook, class, field, function and argument."""
    found = {f"entry points {group}": "" for group in (OVERLAYS_GROUP, COMMANDS_GROUP)}
    found |= {f"point {name}": type_name(point.type) for name, point in CORE_POINTS.items()}
    for name, function in vars(hookspecs).items():
        if name.startswith("xk8s_") and inspect.isfunction(function):
            found |= dict(_function(f"hook {name}", function, hook=True))
    for module_name, names in PUBLIC.items():
        module = import_module(module_name)
        for name in names or (*_own(module), *_ALIASES.get(module_name, ())):
            found |= dict(_member(f"{module_name}.{name}", getattr(module, name)))
    return dict(sorted(found.items()))


def compare(kept: Mapping[str, str], now: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return what breaks plugins made for the ``kept`` contract, and what is just new."""
    breaks, additions = [], []
    for name, promise in kept.items():
        if name not in now:
            breaks.append(f"{name} is gone")
        elif now[name] != promise:
            breaks.append(f"{name} was {promise!r} and is {now[name]!r}")
    known = {_whole(name) for name in kept}
    for name, promise in now.items():
        if name in kept:
            continue
        if promise.startswith(REQUIRED) and _whole(name) in known:
            breaks.append(f"{name} is new and must be given")
        else:
            additions.append(f"{name} is new")
    return breaks, additions


def main(arguments: list[str]) -> int:
    """Update the kept table; exit code 1, and nothing is written, if the contract is broken without
    that option.
    """
    paths = [Path(argument) for argument in arguments if not argument.startswith("--")]
    path = (paths or [Path("docs/reference/contract-v1.json")])[0]
    now = contract()
    kept = json.loads(path.read_text()) if path.exists() else {}
    breaks, additions = compare(kept, now)
    for line in additions:
        print(line)
    for line in breaks:
        print(f"BREAK: {line}", file=sys.stderr)
    if breaks and "--accept-breaks" not in arguments:
        print("nothing was written; see docs/reference/compatibility.md", file=sys.stderr)
        return 1
    if now != kept:
        path.write_text(json.dumps(now, indent=1, ensure_ascii=False) + "\n")
    return 0


# --- parts ------------------------------------------------------------------------------


def _own(module: ModuleType) -> list[str]:
    """Return public names that a module defines itself: classes, functions, constants."""
    return [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", "") == module.__name__ and name[0] != "_"
    ] + [name for name in inspect.get_annotations(module) if name.isupper() and name[0] != "_"]


def _member(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if inspect.isclass(value):
        yield from _class(name, value)
    elif inspect.isfunction(value) and name.startswith(f"{value.__module__}."):
        yield from _function(name, value)
    elif callable(value) and not typing.get_args(value):
        yield name, "function"  # made by another package
    else:
        yield name, _shown(value)


def _class(name: str, cls: type[Any]) -> Iterator[tuple[str, str]]:
    bases = ", ".join(base.__name__ for base in cls.__bases__ if base is not object)
    code = f", exit code {cls.exit_code}" if issubclass(cls, Xk8sError) else ""
    yield name, "class" + (f" of {bases}" if bases else "") + code
    annotations = inspect.get_annotations(cls)
    for field in attrs.fields(cls) if attrs.has(cls) else ():
        if not field.name.startswith("_"):
            type_ = str(annotations.get(field.name, field.type))
            default = _promise(type_, field.default, attrs.NOTHING)
            yield f"{name}.{field.name}", default
    made_by_others = attrs.has(cls) or getattr(cls, "_is_protocol", False)
    for member, value in vars(cls).items():
        if isinstance(value, property):
            returns = inspect.signature(value.fget).return_annotation if value.fget else ""
            yield f"{name}.{member}", f"property: {_text(returns)}"
        elif not inspect.isfunction(value) or (member.startswith("_") and member != "__init__"):
            continue
        elif member != "__init__" or not made_by_others:
            yield from _function(f"{name}.{member}", value)


def _function(
    name: str, function: Callable[..., Any], *, hook: bool = False
) -> Iterator[tuple[str, str]]:
    """Return a function's arguments; those of a hook are given by name, and none is required: an
    implementation takes which it likes.
    """
    signature = inspect.signature(function)
    position = 0
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        type_ = _text(parameter.annotation)
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            promise = f"any number, {type_}"
        elif hook:
            promise = type_
        else:
            promise = _promise(type_, parameter.default, parameter.empty)
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
                position += 1
                promise += f" (argument {position})"
        yield f"{name}({parameter.name})", promise
    yield f"{name}()", _text(signature.return_annotation)


def _promise(type_: str, default: Any, nothing: object) -> str:
    return f"{REQUIRED}, {type_}" if default is nothing else f"{type_} = {_shown(default)}"


def _whole(name: str) -> str:
    """Return what a field or an argument is a part of."""
    return name.partition("(")[0] if "(" in name else name.rpartition(".")[0]


def _text(annotation: object) -> str:
    text = annotation if isinstance(annotation, str) else type_name(annotation)
    return text.replace("'", "").replace('"', "")


def _shown(value: Any) -> str:
    if isinstance(value, attrs.Factory):  # type: ignore[arg-type]
        return f"{getattr(value.factory, '__name__', 'made')}()"
    if isinstance(value, frozenset):
        return "{" + ", ".join(sorted(map(repr, value))) + "}"
    if inspect.isfunction(value):
        return value.__name__
    return type_name(value) if typing.get_args(value) else repr(value)
