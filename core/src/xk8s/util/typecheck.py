"""Whether a value is what its type says, all the way down: plugins need not be type-checked."""

from __future__ import annotations

import collections.abc
import functools
import re
import reprlib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import attrs

_SEQUENCES = (tuple, list, set, frozenset)


def problem(value: object, type_: Any) -> str | None:
    """Return what is wrong, as "entries[2].data is 'x', not bytes", or None. Fields of attrs
    classes and items of tuples, lists, sets and mappings are looked at; of a callable only that it
    is one.
    """
    return _Look().problem(value, type_, "")


def shown(value: object) -> str:
    """A short repr; values of plugins may have one that fails."""
    try:
        return f"{value!r:.80}"
    except Exception:
        return f"a {type(value).__name__} without a repr"


def name(type_: Any) -> str:
    """A type as an author would write it."""
    if type_ is type(None):
        return "None"
    if isinstance(type_, type) and not typing.get_args(type_):
        return type_.__name__
    return re.sub(r"\b(?:[A-Za-z_]\w*\.)+(?=\w)", "", str(type_))


class _Look:
    """One look; a value that is met again (an artifact that many layers take from) is known."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, int]] = set()

    def problem(self, value: object, type_: Any, path: str) -> str | None:
        if type_ is Any or isinstance(type_, typing.TypeVar):
            return None
        origin, arguments = typing.get_origin(type_), typing.get_args(type_)
        if origin is Literal:
            return None if value in arguments else _wrong(value, type_, path)
        if origin in (typing.Union, types.UnionType):
            return self._union(value, type_, arguments, path)
        if origin is type:
            return None if isinstance(value, type) else _wrong(value, type_, path)
        if origin is collections.abc.Callable or type_ is Callable:
            return None if callable(value) else _wrong(value, type_, path)
        if origin is tuple:
            return self._tuple(value, type_, arguments, path)
        if isinstance(origin, type):
            if not isinstance(value, origin):
                return _wrong(value, type_, path)
            return self._items(value, arguments, path)
        if type_ is float:
            type_ = (int, float)
        if type_ is None:
            type_ = type(None)
        if not isinstance(type_, (type, tuple)):
            return None  # nothing that values could be compared with
        if not isinstance(value, type_):
            return _wrong(value, type_, path)
        return self._fields(value, path)

    def _union(self, value: object, type_: Any, arguments: Any, path: str) -> str | None:
        inner = [self.problem(value, argument, path) for argument in arguments]
        if None in inner:
            return None
        # Of the right class and wrong inside: that is the thing to tell.
        deeper = [
            reason for reason in inner if reason and path and not reason.startswith(f"{path} is ")
        ]
        return deeper[0] if deeper else _wrong(value, type_, path)

    def _tuple(self, value: object, type_: Any, arguments: Any, path: str) -> str | None:
        if not isinstance(value, tuple):
            return _wrong(value, type_, path)
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return self._items(value, arguments[:1], path)
        if len(arguments) != len(value):
            return _wrong(value, type_, path)
        pairs = enumerate(zip(value, arguments, strict=True))
        return _first(self.problem(item, of, f"{path}[{index}]") for index, (item, of) in pairs)

    def _items(self, value: object, arguments: Any, path: str) -> str | None:
        if isinstance(value, Mapping):
            key_type, item_type = arguments or (Any, Any)
            for key, item in value.items():
                found = self.problem(key, key_type, f"a key of {path}") or self.problem(
                    item, item_type, f"{path}[{key!r}]"
                )
                if found:
                    return found
            return None
        if isinstance(value, _SEQUENCES) and arguments:
            items = enumerate(value)
            return _first(self.problem(item, arguments[0], f"{path}[{i}]") for i, item in items)
        return None

    def _fields(self, value: object, path: str) -> str | None:
        cls = type(value)
        if not attrs.has(cls) or (id(value), id(cls)) in self._seen:
            return None
        self._seen.add((id(value), id(cls)))
        for field, type_ in hints(cls).items():
            inner = f"{path}.{field}" if path else field
            found = self.problem(getattr(value, field), type_, inner)
            if found:
                return found
        return None


@functools.cache
def hints(cls: type[Any]) -> Mapping[str, Any]:
    """Types of an attrs class's fields; Any for one that names what only type checkers import."""
    unknown: dict[str, Any] = {}
    while True:
        try:
            found = typing.get_type_hints(cls, localns=unknown)
        except NameError as error:
            if error.name is None or error.name in unknown:
                raise
            unknown[error.name] = Any
            continue
        return {field.name: found.get(field.name, Any) for field in attrs.fields(cls)}


def _wrong(value: object, type_: Any, path: str) -> str:
    wanted = "int or float" if type_ == (int, float) else name(type_)
    return (
        f"{path or 'it'} is {reprlib.repr(value) if _plain(value) else shown(value)}, not {wanted}"
    )


def _plain(value: object) -> bool:
    return isinstance(value, (str, bytes, int, float, list, tuple, dict))


def _first(problems: Iterable[str | None]) -> str | None:
    return next((reason for reason in problems if reason), None)
