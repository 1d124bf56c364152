"""Functions that plugins name as "package.module:name"."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from xk8s.errors import PluginError


def load_function(function: str, *, what: str = "recipe function") -> Callable[[Any], object]:
    """Return the function named "package.module:name"; `PluginError` when there is none."""
    module, _, name = function.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise PluginError(
            f"{what} {function} cannot be loaded: {error}",
            where=function,
            hint="it must be 'package.module:name' of an installed package",
        ) from error
    if not callable(found):
        raise PluginError(f"{what} {function} is not a function", where=function)
    loaded: Callable[[Any], object] = found
    return loaded
