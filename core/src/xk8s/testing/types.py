"""Whether what a hook returned has the types that it says: attrs does not look."""

from __future__ import annotations

import sys
import typing
from collections.abc import Iterator
from typing import Any

import attrs
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from xk8s.checks import CheckContext

_LATE = {"CheckContext": CheckContext}
"""Names that xk8s imports for type checkers alone."""


def mistyped(value: Any, where: str) -> Iterator[str]:
    """A sentence for each field of ``value``, and of what is in it, that has another type than
    its class says. Only classes of xk8s are looked into.
    """
    if isinstance(value, (tuple, list, frozenset)):
        for item in value:
            yield from mistyped(item, where)
    cls = type(value)
    if not attrs.has(cls) or cls.__module__.split(".")[0] != "xk8s":
        return
    names = {**vars(sys.modules[cls.__module__]), **_LATE}
    hints = typing.get_type_hints(cls, globalns=names)
    for attribute in attrs.fields(cls):
        item = getattr(value, attribute.name)
        said = f"{where}: {cls.__name__}.{attribute.name}"
        if problem := fits(item, hints[attribute.name]):
            yield f"{said} = {item!r:.60}: {problem}"
        else:
            yield from mistyped(item, where)


def fits(value: Any, kind: Any) -> str:
    """Why ``value`` is no ``kind``; "" when it is one."""
    try:
        check_type(value, kind, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except TypeCheckError as error:
        return str(error)
    return ""
