"""The state of a VM to a file and back, and a running VM from one QEMU to another.

RAM that lives in a shared file stays where it is (capability x-ignore-shared, QEMU 4.0): then
the state is some megabytes and saved in hundredths of a second. RAM of its own (a restored,
copy-on-write VM) goes into the state file as a whole.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from xk8s.errors import MachineError
from xk8s.machine.qemu.qmp import Qmp
from xk8s.util.log import get_logger

log = get_logger(__name__)

_UNLIMITED = 1 << 40
LEAST_QEMU = (8, 2)
"""First QEMU with migration to ``file:``."""

STOPPED = ("paused", "postmigrate", "finish-migrate", "prelaunch")
"""States of a VM that is paused, and that `cont` resumes."""
NO_ROOM = "io-error"
"""State of a VM that wrote to a full disk of this machine: `cont` lets it write that again."""
_AT_WORK = ("setup", "active", "device", "pre-switchover", "cancelling", "wait-unplug")

MOVE_PAUSE = 0.1
"""Seconds that a VM may be paused while the last of its RAM is moved."""
_ROUNDS = 60
"""Number of rounds after which a VM that changes its RAM faster than it can be copied will never
converge.
"""
_SPARSE_SINCE = (9, 1)
"""First QEMU whose several channels leave pages alone that are zero on both sides."""


def save(qmp: Qmp, path: Path, *, ram: bool = False, timeout: float = 120.0) -> None:
    """Write the state of a stopped VM to ``path``; with ``ram`` all of its RAM too, wherever that
    is. `MachineError` if that fails.
    """
    _capabilities(qmp, ignore=not ram)
    # QEMU spares networks by default: 128 MiB/s. This goes to a file.
    qmp.execute("migrate-set-parameters", max_bandwidth=_UNLIMITED)
    qmp.execute("migrate", uri=f"file:{path}")
    _wait(qmp, "save", path, timeout)


def load(qmp: Qmp, path: Path, *, ram: bool = False, timeout: float = 120.0) -> None:
    """Read a state into a VM that was started with ``incoming``; it stays stopped. ``ram`` as
    it was saved.
    """
    _capabilities(qmp, ignore=not ram)
    qmp.execute("migrate-incoming", uri=f"file:{path}")
    _wait(qmp, "restore", path, timeout)


def move(
    source: Qmp,
    target: Qmp,
    path: Path,
    *,
    version: tuple[int, ...],
    pause: float = MOVE_PAUSE,
    timeout: float = 120.0,
) -> float:
    """Move a running VM with all of its RAM into another QEMU that was started with ``incoming``;
    it runs there; return for how many seconds it was paused. ``path`` is for a socket;
    ``version`` is that of both QEMUs.

    `MachineError` if that is impossible within ``timeout`` seconds or a pause of ``pause``; the VM
    then keeps running in ``source``.
    """
    channels = version >= _SPARSE_SINCE
    for qmp in (source, target):
        _capabilities(qmp, ignore=False, channels=channels)
    try:
        target.execute("migrate-incoming", uri=f"unix:{path}")
        limit = int(pause * 1000)
        source.execute("migrate-set-parameters", max_bandwidth=_UNLIMITED, downtime_limit=limit)
        source.execute("migrate", uri=f"unix:{path}")
        done = _wait(source, "move", path, timeout, rounds=_ROUNDS)
        left = time.monotonic()
        _wait(target, "move", path, timeout)
        return float(done.get("downtime", 0)) / 1000 + time.monotonic() - left
    except BaseException:
        with contextlib.suppress(MachineError):
            run_on(source)
        raise
    finally:
        path.unlink(missing_ok=True)


def run_on(qmp: Qmp) -> None:
    """Resume a paused VM, whatever was being done to it: a transfer of its state that is still at
    work is cancelled. One that has crashed or was shut down stays as it is.
    """
    cancel(qmp)
    if qmp.status() in (*STOPPED, NO_ROOM):
        qmp.execute("cont")


def cancel(qmp: Qmp) -> str:
    """Cancel the transfer of a VM's state, if there is one; return what became of it: "completed"
    when it was too late, "none" when there was none.
    """
    deadline = time.monotonic() + 10
    asked = False
    while True:
        status = str(qmp.poll("query-migrate").get("status", "none"))
        if status not in _AT_WORK or time.monotonic() > deadline:
            return status
        if not asked:
            qmp.execute("migrate_cancel")
            asked = True
        time.sleep(0.01)


def _capabilities(qmp: Qmp, *, ignore: bool, channels: bool = False) -> None:
    # The same on both sides, or QEMU refuses the state. They stay set: so always all of them.
    wanted = {"x-ignore-shared": ignore, "multifd": channels}
    capabilities = [{"capability": name, "state": on} for name, on in wanted.items()]
    qmp.execute("migrate-set-capabilities", capabilities=capabilities)


def _wait(
    qmp: Qmp, what: str, path: Path, timeout: float, *, rounds: int | None = None
) -> dict[str, Any]:
    with log.timed("migration", node=qmp.name, command=what, path=path):
        return _poll(qmp, what, path, timeout, rounds)


def _poll(qmp: Qmp, what: str, path: Path, timeout: float, rounds: int | None) -> dict[str, Any]:
    deadline = time.monotonic() + timeout
    while True:
        answer: dict[str, Any] = qmp.poll("query-migrate")
        status = answer.get("status")
        if status == "completed":
            return answer
        why = None
        if status in ("failed", "cancelled"):
            why = str(answer.get("error-desc") or status)
        elif time.monotonic() > deadline:
            why = f"{status} after {timeout:.0f} s"
        elif rounds is not None and answer.get("ram", {}).get("dirty-sync-count", 0) > rounds:
            why = "it changes its memory faster than it can be copied"
        if why:
            raise MachineError(f"{qmp.name}: cannot {what} its state: {why}", where=str(path))
        time.sleep(0.002)
