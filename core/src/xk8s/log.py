"""Logging, configured once by the CLI: console on a terminal, plain lines or JSON elsewhere."""

from __future__ import annotations

import logging
import sys


def configure(*, verbose: int = 0, quiet: bool = False, as_json: bool = False) -> None:
    """Set up structlog on stderr.

    Warnings are shown by default, ``verbose`` 1 adds info and 2 debug; ``quiet`` leaves errors.
    Logs are never results: those go to stdout.
    """
    import structlog

    level = logging.ERROR if quiet else logging.WARNING
    if verbose:
        level = logging.INFO if verbose == 1 else logging.DEBUG
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
