"""Logging, configured once by the CLI: console on a terminal, plain lines or JSON elsewhere."""

from __future__ import annotations

import functools
import importlib.util
import logging
import shlex
import sys
from collections.abc import Callable, MutableMapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from xk8s.util.console_text import json_text, without_controls
from xk8s.util.log import PROGRESS, Record, add_sink

_MAX_COMMAND_LINE = 200
"""Characters of a program's arguments in a line of `-v`; `-vv` has all of them."""


def configure(*, verbose: int = 0, quiet: bool = False, as_json: bool = False) -> None:
    """Send log records to stderr, and set up structlog, now or when something imports it.

    Warnings are shown by default, ``verbose`` 1 adds info and 2 debug; ``quiet`` leaves errors.
    ``as_json``: progress comes as records too. Logs are never results: those go to stdout.
    """
    level = logging.ERROR if quiet else logging.WARNING
    if verbose:
        level = logging.INFO if verbose == 1 else logging.DEBUG
    _console.level, _console.as_json, _console.quiet = level, as_json, quiet
    add_sink(_console)
    apply = functools.partial(_configure, level, as_json)
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Later)]
    if "structlog" in sys.modules:
        apply()
    else:
        sys.meta_path.insert(0, _Later(apply))


class _Console:
    """The sink that structlog draws on stderr."""

    level = logging.WARNING
    as_json = False
    quiet = False

    def wants(self, level: int, logger: str) -> bool:
        """Return what the options ask for. Progress is drawn otherwise, unless all is JSON."""
        if logger == PROGRESS:
            return self.as_json and not self.quiet
        return level >= self.level

    def write(self, record: Record) -> None:
        """Write one line."""
        import structlog

        # The level is decided above: progress in JSON is shown whatever it is.
        everything = structlog.make_filtering_bound_logger(logging.NOTSET)
        logger: Any = structlog.wrap_logger(None, wrapper_class=everything)
        fields = dict(record.fields)
        if self.as_json:
            fields["logger"] = record.logger
        elif isinstance(argv := fields.get("argv"), list):
            text = shlex.join(map(str, argv))
            short = self.level > logging.DEBUG and len(text) > _MAX_COMMAND_LINE
            fields["argv"] = f"{text[:_MAX_COMMAND_LINE]}…" if short else text
        if not self.as_json:
            fields = {key: _plain(value) for key, value in fields.items()}
        logger.log(record.level, record.event, **fields)


_console = _Console()


def _configure(level: int, as_json: bool) -> None:
    import structlog

    terminal = sys.stderr.isatty()
    renderer: structlog.types.Processor
    if as_json:
        renderer = structlog.processors.JSONRenderer(serializer=lambda value, **_: json_text(value))
    elif terminal:
        renderer = structlog.dev.ConsoleRenderer()
    else:
        renderer = structlog.processors.KeyValueRenderer(repr_native_str=False)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso" if as_json else "%H:%M:%S", utc=as_json),
            structlog.processors.format_exc_info,
            _head_first,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # sys.stderr is looked up for each line: a live display puts its own in its place, and
        # prints what is written to it above itself. A line is one write: threads share it.
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _plain(value: object) -> object:
    """Take out what would change the terminal; guests write parts of errors."""
    return without_controls(value) if isinstance(value, str) else value


def _head_first(
    _logger: object, _method: str, record: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Put what every record has at its beginning."""
    head = {key: record.pop(key) for key in ("timestamp", "level", "event") if key in record}
    return {**head, **record}


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
