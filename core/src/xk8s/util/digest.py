"""Digests of plan values: canonical JSON, SHA-256.

Everything that can be in a plan has one canonical form, so the same inputs have the same digest
on any machine and in any Python.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Set
from pathlib import PurePath
from typing import Any

import attrs

UNDIGESTED = {"digest": False}
"""Metadata of an attrs field that says nothing about what the value is."""


def plain(value: Any) -> Any:
    """``value`` as JSON data: attrs values become mappings with their class's name (fields with
    metadata `UNDIGESTED` are left out), bytes the SHA-256 of their content, sets sorted lists,
    callables their qualified name.
    """
    if attrs.has(type(value)):
        fields = {
            a.name: plain(getattr(value, a.name))
            for a in attrs.fields(type(value))
            if a.metadata.get("digest", True)
        }
        return {"is": type(value).__name__, **fields}
    if isinstance(value, bytes):
        return "sha256:" + hashlib.sha256(value).hexdigest()
    if isinstance(value, Mapping):
        return {str(key): plain(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, Set):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Callable):  # type: ignore[arg-type]
        return f"{value.__module__}:{getattr(value, '__qualname__', type(value).__qualname__)}"
    return value


def digest(value: Any) -> str:
    """Hex SHA-256 of the canonical JSON of ``plain(value)``."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_text(text: str | bytes) -> str:
    """Hex sha256 of a text (UTF-8) or bytes."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal texts. TypeError or
    ValueError for what JSON cannot say.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
