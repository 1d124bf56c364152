"""Log records: typed fields under a short event name, sent to every sink that wants them.

The sinks are the console (xk8s.cli.log, by structlog) and a file per operation on a cluster
(xk8s.cluster.state.operation_log). Nothing here imports structlog: that takes 0.4 s of CPU, as
much as half of what `up` needs to restore a snapshot, and without -v no line is drawn.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from logging import DEBUG, ERROR, INFO, WARNING
from typing import NamedTuple, Protocol

PROGRESS = "xk8s.progress"
"""Logger of what the user sees during work: a sink may want all of it."""

MAX_TEXT = 2000
"""Characters of one string in a record."""


class Record(NamedTuple):
    """What happened. ``fields`` are JSON values without secrets; ``level`` is one of `logging`."""

    level: int
    logger: str
    event: str
    fields: Mapping[str, object]


class Sink(Protocol):
    """Receiver of records. Called from any thread."""

    def wants(self, level: int, logger: str) -> bool:
        """Return whether the sink wants such records."""

    def write(self, record: Record) -> None:
        """Write it; an OSError or ValueError (closed file) is ignored."""


_sinks: tuple[Sink, ...] = ()
_changing = threading.Lock()


def add_sink(sink: Sink) -> None:
    """Send records to ``sink`` from now on."""
    global _sinks
    with _changing:
        if sink not in _sinks:
            _sinks = (*_sinks, sink)


def remove_sink(sink: Sink) -> None:
    """Send no more records to ``sink``."""
    global _sinks
    with _changing:
        _sinks = tuple(known for known in _sinks if known is not sink)


class Logger:
    """The logger of a module. An event is a static string in snake_case; what varies is a field.

    Usual fields: ``argv``, ``exit_code``, ``node``, ``command``, ``duration_s``, ``error``,
    ``reason``. Content of files and standard input is never a field; its size may be.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        """``name``: that of the module."""
        self.name = name

    def debug(self, event: str, /, **fields: object) -> None:
        """Log what only `-vv` shows: arguments, sizes, waits."""
        self._emit(DEBUG, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """Log what `-v` shows: programs, requests, commands and decisions."""
        self._emit(INFO, event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """Log what is shown always."""
        self._emit(WARNING, event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        """Log what is shown even with `--quiet`."""
        self._emit(ERROR, event, fields)

    def enabled(self, level: int = INFO) -> bool:
        """Return whether a record would be written: some reasons take long to find."""
        return any(sink.wants(level, self.name) for sink in _sinks)

    @contextmanager
    def timed(self, event: str, /, **fields: object) -> Iterator[dict[str, object]]:
        """Log ``event`` (info) at the end of the block with ``duration_s``, and with ``error``
        when it raises. The block puts what it learns, an exit code say, into the dict.
        """
        start = time.monotonic()
        result: dict[str, object] = {}
        try:
            yield result
        except BaseException as error:
            result.setdefault("error", f"{type(error).__name__}: {error}")
            raise
        finally:
            seconds = round(time.monotonic() - start, 4)
            self.info(event, **{**fields, **result, "duration_s": seconds})

    def _emit(self, level: int, event: str, fields: Mapping[str, object]) -> None:
        sinks = [sink for sink in _sinks if sink.wants(level, self.name)]
        if not sinks:
            return
        plain = {key: _plain(value) for key, value in fields.items()}
        record = Record(level, self.name, event, plain)
        for sink in sinks:
            with suppress(OSError, ValueError):  # a full disk or a closed stderr ends no work
                sink.write(record)


def get_logger(name: str) -> Logger:
    """Return the logger of the module called ``name``."""
    return Logger(name)


def _plain(value: object) -> object:
    """Turn a field into JSON, without secrets and not too long."""
    from xk8s.util.scrub import REMOVED, Scrubber, names_secret, scrub_words

    match value:
        case None | bool() | int() | float():
            return value
        case bytes():
            return f"{len(value)} bytes"
        case Mapping():
            return {
                str(key): REMOVED if names_secret(str(key)) else _plain(item)
                for key, item in value.items()
            }
        case Sequence() if not isinstance(value, str):
            return [_plain(item) for item in scrub_words(value)]
    text = Scrubber()(str(value))
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}… ({len(text)} characters)"
