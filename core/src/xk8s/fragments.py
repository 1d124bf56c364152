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
            return {f"{name} {key}": text for key, _, text in pairs}
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


def _key(key: str) -> str:
    """Return a key as TOML writes it: quoted unless it is bare."""
    return key if _BARE.fullmatch(key) else json.dumps(key, ensure_ascii=False)
