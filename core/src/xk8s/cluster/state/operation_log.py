"""The log of each `up`, `apply` and `scale`, kept with the cluster's state for `xk8s report`.

``clusters/NAME/log/``  TIME-up.jsonl: all records, as with -vv, one JSON object a line

Of each operation the last `KEPT` logs stay. A log that grows beyond `MAX_BYTES` loses its
beginning: what went wrong is at its end. Plain JSON rather than structlog, which takes longer to
import than the restore of a snapshot may.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from xk8s.errors import Xk8sError
from xk8s.util.log import Record, add_sink, get_logger, remove_sink
from xk8s.util.paths import make_private, state_dir, write_private

LOGS = "log"
"""Directory of them below the cluster's state."""
KEPT = 5
MAX_BYTES = 1 << 20

log = get_logger(__name__)


@contextmanager
def operation_log(cluster: str, operation: str) -> Iterator[None]:
    """Keep a log of the block. The caller holds the cluster's lock."""
    directory = state_dir(cluster) / LOGS
    make_private(directory.parent)
    make_private(directory)
    _remove_old(directory, operation)
    sink = LogFile(directory / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{operation}.jsonl")
    add_sink(sink)
    try:
        with log.timed("operation", operation=operation, cluster=cluster):
            try:
                yield
            except Xk8sError as error:
                log.debug("operation_failed", operation=operation, error=str(error),
                          where=error.where, do=error.hint, log=error.log[-1500:])  # fmt: skip
                raise
    finally:
        remove_sink(sink)


def _remove_old(directory: Path, operation: str) -> None:
    for path in sorted(directory.glob(f"*-{operation}.jsonl"))[: -KEPT + 1]:
        path.unlink(missing_ok=True)


class LogFile:
    """A sink that appends every record to a private file of bounded size."""

    def __init__(self, path: Path, *, limit: int = MAX_BYTES) -> None:
        """``limit``: bytes; beyond them the older half goes."""
        self.path = path
        self._limit = limit
        self._lock = threading.Lock()

    def wants(self, level: int, logger: str) -> bool:  # noqa: ARG002
        """Accept every record."""
        return True

    def write(self, record: Record) -> None:
        """Append one line. Nothing when the directory is gone: the cluster was swept."""
        data = json.dumps(
            {
                "timestamp": datetime.now(UTC).isoformat(),
                "level": logging.getLevelName(record.level).lower(),
                "logger": record.logger,
                "event": record.event,
                **record.fields,
            },
            ensure_ascii=False,
        )
        with self._lock:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "ab") as file:
                file.write(data.encode(errors="replace") + b"\n")
                size = file.tell()
            if size > self._limit:
                self._cut()

    def _cut(self) -> None:
        """Keep the last half, from the beginning of a line."""
        kept = self.path.read_bytes()[-self._limit // 2 :].partition(b"\n")[2]
        note = {"event": "beginning_removed", "limit": self._limit}
        write_private(self.path, json.dumps(note).encode() + b"\n" + kept)
