"""QMP sessions with all VMs of a cluster at once: what must happen together, happens together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from xk8s.cluster.state.record import Record
from xk8s.machine.qemu.qmp import Qmp

_SECONDS = 60.0


def connect(stack: ExitStack, record: Record, nodes: Iterable[str]) -> dict[str, Qmp]:
    """A session per node with the process that ``record`` means, closed with ``stack``."""
    return {
        name: stack.enter_context(Qmp(record.sockets(name).qmp, name, timeout=_SECONDS))
        for name in nodes
    }


def each(
    pool: ThreadPoolExecutor, sessions: Mapping[str, Qmp], work: Callable[[str, Qmp], object]
) -> None:
    """Call ``work`` for all sessions at once; returns when all are done, raises what one did."""
    for future in [pool.submit(work, name, qmp) for name, qmp in sessions.items()]:
        future.result()
