"""Logging, configured once by the CLI: console on a terminal, plain lines or JSON elsewhere."""

from __future__ import annotations

import functools
import importlib.util
import logging
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def configure(*, verbose: int = 0, quiet: bool = False, as_json: bool = False) -> None:
    """Set up structlog on stderr, now or when somebody imports it.

    Warnings are shown by default, ``verbose`` 1 adds info and 2 debug; ``quiet`` leaves errors.
    Logs are never results: those go to stdout.
    """
    level = logging.ERROR if quiet else logging.WARNING
    if verbose:
        level = logging.INFO if verbose == 1 else logging.DEBUG
    apply = functools.partial(_configure, level, as_json)
    sys.meta_path[:] = [one for one in sys.meta_path if not isinstance(one, _Later)]
    if "structlog" in sys.modules:
        apply()
    else:
        sys.meta_path.insert(0, _Later(apply))


def _configure(level: int, as_json: bool) -> None:
    import structlog

    terminal = sys.stderr.isatty()
    renderer: structlog.types.Processor
    if as_json:
        renderer = structlog.processors.JSONRenderer()
    elif terminal:
        renderer = structlog.dev.ConsoleRenderer()
    else:
        renderer = structlog.processors.KeyValueRenderer(
            key_order=["timestamp", "level", "event"], repr_native_str=False
        )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso" if as_json else "%H:%M:%S", utc=as_json),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # sys.stderr is looked up for each line: a live display puts its own in its place.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


class _Later(MetaPathFinder):
    """Configures structlog as soon as it is imported. Most commands log nothing, and importing it
    takes as long as everything else that they import.
    """

    def __init__(self, apply: Callable[[], None]) -> None:
        self._apply = apply

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Return the module as the other finders know it, with a loader that configures it."""
        if fullname != "structlog":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Configuring(spec.loader, self._apply)
        return spec


class _Configuring(Loader):
    def __init__(self, loader: Loader, apply: Callable[[], None]) -> None:
        self._loader, self._apply = loader, apply

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._apply()
