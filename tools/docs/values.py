"""The reference page of the values that hooks return and of what plugins' functions get."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

import attrs
from xk8s import hookspecs
from xk8s.util.typecheck import name as type_name

from tools.docs.contract import PUBLIC
from tools.docs.markdown import markdown, row

RETURNED = ("xk8s.overlay", "xk8s.sources")
RECEIVED = ("xk8s.context", "xk8s.checks", "xk8s.recipe", "xk8s.pki")

_LEAD = (
    "What [hooks](hooks.md) return, then what the functions inside these values get. All of them "
    "are frozen attrs classes: give every field by its name; one without a default has to be "
    "given. Import them from the module that they stand below.",
    "[How to make an overlay](../howto/new-overlay.md) answers which of them to use for what; "
    "[Points](points.md) has the types of fragments that other overlays declare.",
)


def sections() -> Iterator[str]:
    """Every public class, function and type of these modules."""
    yield from _LEAD
    for module_name in (*RETURNED, *RECEIVED):
        module = import_module(module_name)
        yield f"## {module_name}"
        yield markdown(inspect.getdoc(module) or "")
        for name, member in _members(module, PUBLIC[module_name]):
            yield f"### {name}"
            yield from _member(name, member, module)


def _members(module: ModuleType, names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """The public members in the order in which the module defines them."""
    for name, member in vars(module).items():
        if name.startswith("_") or (names and name not in names):
            continue
        is_own = getattr(member, "__module__", None) == module.__name__
        if is_own or _is_alias(member):
            yield name, member


def _is_alias(member: Any) -> bool:
    return isinstance(member, types.UnionType) or typing.get_origin(member) is typing.Literal


def _member(name: str, member: Any, module: ModuleType) -> Iterator[str]:
    if _is_alias(member):
        yield f"`{type_name(member)}`"
        return
    if inspect.isfunction(member):
        yield _signature(name, member)
    yield markdown(inspect.getdoc(member) or "")
    if not isinstance(member, type):
        return
    if hooks := [f"[{hook}](hooks.md#{hook})" for hook in _hooks(name)]:
        yield f"Returned by {', '.join(hooks)}."
    if attrs.has(member):
        fields = [_field(field, module) for field in attrs.fields(member) if field.init]
        shown = [cells for cells in fields if not cells[0].startswith("`_")]
        if shown:
            head = "| field | type | default |\n| --- | --- | --- |\n"
            yield head + "\n".join(row(*cells) for cells in shown)
    for method_name, method in vars(member).items():
        function = method.fget if isinstance(method, property) else method
        if method_name.startswith("_") or not inspect.isfunction(function):
            continue
        yield f"#### {name}.{method_name}"
        if not isinstance(method, property):
            yield _signature(method_name, function)
        yield markdown(inspect.getdoc(function) or "")


def _hooks(name: str) -> Iterator[str]:
    """Hooks whose result has values of that class."""
    for hook, function in vars(hookspecs).items():
        if hook.startswith("xk8s_") and inspect.isfunction(function):
            result = str(function.__annotations__.get("return", ""))
            if re.search(rf"\b{name}\b", result):
                yield hook


def _field(field: attrs.Attribute[Any], module: ModuleType) -> tuple[str, str, str]:
    return f"`{field.name}`", f"`{field.type}`", _default(field, module)


def _default(field: attrs.Attribute[Any], module: ModuleType) -> str:
    """Return it as an author would write it: roles by their name, permission bits in octal; ""
    when the field has to be given.
    """
    default: Any = field.default
    if default is attrs.NOTHING:
        return ""
    if hasattr(default, "factory"):
        default = default.factory()
    if isinstance(default, frozenset):
        named = [name for name, constant in vars(module).items() if constant == default]
        return f"`{named[0]}`" if named else f"`{default!r}`"
    if field.name == "mode" and isinstance(default, int):
        return f"`{default:#o}`"
    return f"`{default!r}`"


class _Annotation:
    """An annotation that stands in a signature as it does in the source."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _signature(name: str, function: types.FunctionType) -> str:
    signature = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=_Annotation(parameter.annotation))
        if isinstance(parameter.annotation, str)
        else parameter
        for parameter in signature.parameters.values()
    ]
    result = _Annotation(str(signature.return_annotation))
    whole = signature.replace(parameters=parameters, return_annotation=result)
    return f"```python\n{name}{whole}\n```"
