"""Helpers for owners of points that take arguments of a program or parts of a configuration: what a
value sets (see `xk8s.overlay.Point`), and how to use it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

TABLE = "a table"
"""The value that `config_sets` gives to a key with further keys below it."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def argument_sets(
    *, tables: Sequence[str] = (), adding: Sequence[str] = ()
) -> Callable[[str], Mapping[str, str]]:
    """Return the function that says what an argument ``--name=value`` sets. For arguments in
    ``tables`` (``--name=key=value,…``) each key counts by itself; those in ``adding`` may be given
    many times, and add up.

    That function raises ValueError for a text that is not such an argument.
    """

    def sets(word: str) -> Mapping[str, str]:
        name, equals, value = word.partition("=")
        name = name.replace("_", "-")
        if not re.fullmatch(r"--?[A-Za-z0-9][A-Za-z0-9.-]*", name):
            raise ValueError(f"{word!r} is not an argument --name=value")
        if name.lstrip("-") in adding:
            return {}
        if name.lstrip("-") in tables:
            pairs = (item.partition("=") for item in value.split(",") if item)
            return {f"{name} {key}": its for key, _, its in pairs}
        return {name: value if equals else "true"}

    return sets


def config_sets(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a part of a configuration sets: each value other than a table, by its
    dotted key.
    """
    found: dict[str, Any] = {}

    def walk(table: Mapping[str, Any], above: str) -> None:
        for key, value in table.items():
            if not isinstance(key, str):
                raise ValueError(f"{key!r} in {above or 'it'} is not a string")
            path = f"{above}{_key(key)}"
            if isinstance(value, Mapping):
                found[path] = TABLE
                walk(value, f"{path}.")
            else:
                found[path] = value

    walk(config, "")
    return found


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``more`` over ``base``: mappings are merged, anything else is replaced."""
    result = dict(base)
    for key, value in more.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return result


def toml_text(config: Mapping[str, Any]) -> str:
    """Return a configuration as TOML. ValueError for what TOML lacks (None, keys other than
    strings).
    """
    lines: list[str] = []

    def write(table: Mapping[str, Any], above: tuple[str, ...]) -> None:
        values = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
        if above and (values or not table):
            lines.append(f"{chr(10) if lines else ''}[{'.'.join(map(_key, above))}]")
        lines.extend(f"{_key(key)} = {_value(value)}" for key, value in values.items())
        for key, value in table.items():
            if isinstance(value, Mapping):
                write(value, (*above, key))

    write(config, ())
    return "".join(f"{line}\n" for line in lines)


def _key(key: str) -> str:
    if not isinstance(key, str):
        raise ValueError(f"{key!r} is not a string")
    return key if _BARE.fullmatch(key) else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_value(its)}" for key, its in value.items()) + "}"
    raise ValueError(f"TOML has no {type(value).__name__}: {value!r:.60}")


def _text(text: str) -> str:
    # JSON's escapes are TOML's, except for surrogate pairs (hence not ASCII alone) and DEL.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
