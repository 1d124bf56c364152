"""Conversion of strings (command line, environment) and TOML values to the types of settings, and
back to text.
"""

from __future__ import annotations

import json
import math
import tomllib
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import cattrs

from xk8s.errors import UsageError

_converter = cattrs.Converter(forbid_extra_keys=True)
_WORDS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_LISTS = (tuple, list, frozenset)


def type_name(type_: Any) -> str:
    """Return a type as users write it: "ipv4 | ipv6 | dual", "int", "list of str"."""
    origin, arguments = typing.get_origin(type_), typing.get_args(type_)
    if origin is Literal:
        return " | ".join(str(argument) for argument in arguments)
    if origin in _LISTS:
        return f"list of {type_name(arguments[0])}"
    if origin is dict:
        return f"{type_name(arguments[0])}={type_name(arguments[1])}, …"
    if origin is not None:
        return " or ".join(type_name(argument) for argument in arguments)
    if type_ is type(None):
        return "nothing"
    return getattr(type_, "__name__", str(type_))


def is_table(type_: Any) -> bool:
    """Return whether a setting of this type is a table of names and values itself."""
    return typing.get_origin(_inner(type_)) is dict


def convert(key: str, raws: Sequence[Any], type_: Any, origin: str) -> Any:
    """Convert what was given for one setting, in the order given, to one value of its type.

    Lists add up, tables too (the last value of a repeated name counts); for anything else the last
    value counts. `UsageError` names the text, the setting and its type.
    """
    kind = typing.get_origin(_inner(type_))
    if kind not in (*_LISTS, dict):
        raws = raws[-1:]
    values = []
    for raw in raws:
        try:
            values.append(_structure(raw, type_))
        except (
            ValueError,
            TypeError,
            KeyError,
            RecursionError,
            cattrs.BaseValidationError,
        ) as error:
            more = f": {error}" if isinstance(error, _NoLiteral) else ""
            raise UsageError(
                f"{_shown(raw)} is not a value for {key}{more}",
                where=origin,
                hint=f"it takes {type_name(type_)}",
            ) from error
    if len(values) == 1:
        return values[0]
    if kind is dict:
        return {name: item for value in values for name, item in (value or {}).items()}
    return kind(item for value in values for item in value or ())


def text(value: object) -> str:
    """Return a value as it is written on the command line."""
    if value in (None, "", {}, (), [], frozenset()):
        return "(none)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        items = [str(key) for key in value] + [text(item) for item in value.values()]
        if any(not _is_plain(item) for item in items) or any("=" in str(key) for key in value):
            return json.dumps(value, ensure_ascii=False)
        return ",".join(f"{key}={text(item)}" for key, item in value.items())
    if isinstance(value, (tuple, list, frozenset)):
        items = [text(item) if isinstance(item, bool) else str(item) for item in value]
        if any(not _is_plain(item) for item in items):
            return json.dumps(list(value), ensure_ascii=False)
        return ",".join(items)
    return str(value)


def _is_plain(item: str) -> bool:
    """Return whether it stays one item of a comma-separated text."""
    return bool(item) and item == item.strip() and "," not in item and item[0] not in "[{"


def _shown(raw: Any) -> str:
    """Return a value that is wrong as an error shows it, however long or deep it is."""
    try:
        found = repr(raw)
    except RecursionError:
        return "a list of lists of lists …"
    return found if len(found) <= 200 else f"{found[:200]}…"


class _NoLiteral(ValueError):
    """A text that begins like a list or table in JSON or TOML, but is neither."""


def _literal(written: str) -> Any:
    try:
        return json.loads(written)
    except (ValueError, RecursionError):
        pass
    try:
        found = tomllib.loads(f"value = {written}")
    except (ValueError, RecursionError) as error:
        raise _NoLiteral(f"it begins like JSON or TOML but is neither ({error})") from error
    if set(found) != {"value"}:
        raise _NoLiteral("it begins like JSON or TOML, but more text follows")
    return found["value"]


def _inner(type_: Any) -> Any:
    """Return the type without "or nothing"."""
    arguments = typing.get_args(type_)
    if type(None) in arguments and typing.get_origin(type_) is not Literal:
        return next(argument for argument in arguments if argument is not type(None))
    return type_


def _structure(raw: Any, type_: Any) -> Any:
    inner = _inner(type_)
    if inner is not type_:
        return None if raw in ("", None) else _structure(raw, inner)
    origin, arguments = typing.get_origin(type_), typing.get_args(type_)
    if origin is Literal:
        if raw not in arguments:
            raise ValueError(raw)
        return raw
    if isinstance(raw, str) and raw.lstrip()[:1] in ("[", "{") and origin in (*_LISTS, dict):
        raw = _literal(raw)
    if origin in _LISTS:
        if isinstance(raw, Mapping):
            raise TypeError(raw)
        if isinstance(raw, str):
            raw = [item.strip() for item in raw.split(",") if item.strip()]
        return origin(_structure(item, arguments[0]) for item in raw)
    if origin is dict:
        if isinstance(raw, str):
            raw = dict(_pairs(raw))
        if not isinstance(raw, Mapping):
            raise TypeError(raw)
        return {
            _structure(name, arguments[0]): _structure(value, arguments[1])
            for name, value in raw.items()
        }
    if type_ is bool:
        return raw if isinstance(raw, bool) else _WORDS[str(raw).lower()]
    if type_ is int:
        return _whole(raw)
    if type_ is float:
        return _finite(raw)
    if type_ is str and not isinstance(raw, str):
        raise TypeError(raw)
    return _converter.structure(raw, type_)


def _whole(raw: Any) -> int:
    """Return a whole number: 2.9 is none, and neither is 2.0, since a file that says so means
    something else.
    """
    if isinstance(raw, bool) or not isinstance(raw, (int, str)):
        raise TypeError(raw)
    return int(raw)


def _finite(raw: Any) -> float:
    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
        raise TypeError(raw)
    try:
        found = float(raw)
    except OverflowError as error:
        raise ValueError(raw) from error
    if not math.isfinite(found):
        raise ValueError(raw)
    return found


def _pairs(written: str) -> list[tuple[str, str]]:
    found = []
    for item in filter(None, written.split(",")):
        name, equals, value = item.partition("=")
        if not equals:
            raise ValueError(item)
        found.append((name.strip(), value.strip()))
    return found
