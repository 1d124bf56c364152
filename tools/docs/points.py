"""The reference page of named points, generated from what their owners declare."""

from __future__ import annotations

import inspect
import json
import sys
import typing
from collections.abc import Iterator
from typing import Any

import attrs
from xk8s.names.registry import Registry
from xk8s.planning.points import CORE_POINTS
from xk8s.util import typecheck

_LEAD = (
    "At a point, overlays contribute to something that another overlay (or the core) makes: "
    "`xk8s_fragments` returns a `Fragment` with the name of the point and a value of its type. "
    "The first word of the name is the owner's. A fragment for an overlay that is not selected is "
    "ignored, so you can have one for `containerd.config` and one for `crio.config`. It is an "
    "error if the owner does not have the point, or if the owner is not even installed, unless "
    "your overlay names it in `Overlay(after=…)`.",
    "A value either sets something (each example says what) or adds to other values. If two "
    "overlays set one thing to different values, nothing is started: the error names both. The "
    "user's settings come last.",
    "Kernel modules are requested with the hook `xk8s_kernel`; kernel arguments and devices are "
    "added with `xk8s_boot`. Two overlays that contradict each other there are an error as well, "
    "and so are a sysctl that is also a kernel argument (`sysctl.NAME=VALUE`) with another value "
    "and a module to load that `module_blacklist` names. An overlay declares its own points with "
    '`Overlay(points={"NAME.…": Point(…)})`, and reads them with `ctx.fragments`.',
)


def sections(distributions: frozenset[str]) -> Iterator[str]:
    """Return every point of the core and of the overlays of these distributions."""
    registry = Registry()
    tables = {
        offer.name: registry.overlay(offer.name).points
        for offer in registry.offers
        if offer.distribution in distributions
    }
    yield from _LEAD
    for overlay, points in [("cluster", CORE_POINTS), *tables.items()]:
        for name, point in points.items():
            owner = "the core" if points is CORE_POINTS else f"the overlay `{overlay}`"
            example = _quoted(point.example)
            yield f"## {name}"
            yield f"Of {owner}; takes `{_public(point.type)}`. {point.help}"
            yield f"```python\nFragment(point={_quoted(name)}, value={example})\n```"
            keys = ", ".join(
                f"`{key}`" for key in (point.sets(point.example) if point.sets else {})
            )
            yield f"It sets {keys}." if keys else "It adds to others."


def _public(type_: Any) -> str:
    """Return a type by the name under which authors import it."""
    if not isinstance(type_, type) or typing.get_args(type_):
        return typecheck.name(type_)
    top = type_.__module__.partition(".")[0]
    if top == "builtins":
        return type_.__name__
    exported = getattr(sys.modules[top], type_.__name__, None) is type_
    return f"{top if exported else type_.__module__}.{type_.__name__}"


def _quoted(value: Any) -> str:
    """Return a value as one would write it, leaving out defaults."""
    if attrs.has(type(value)):
        fields = {
            field.name: getattr(value, field.name)
            for field in attrs.fields(type(value))
            if getattr(value, field.name) != field.default
        }
        words = (f"{name}={_quoted(argument)}" for name, argument in fields.items())
        return f"{type(value).__name__}({', '.join(words)})"
    if isinstance(value, (tuple, list)):
        items = ", ".join(map(_quoted, value))
        return f"[{items}]" if isinstance(value, list) else f"({items}{',' * (len(value) == 1)})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(k)}: {_quoted(v)}" for k, v in value.items()) + "}"
    if isinstance(value, frozenset):
        return "frozenset({" + ", ".join(sorted(map(_quoted, value))) + "})"
    if isinstance(value, bytes):
        return "b" + _quoted(value.decode("latin-1"))
    if isinstance(value, str):
        return json.dumps(value)
    return value.__name__.lstrip("_") if inspect.isfunction(value) else repr(value)
