"""The state of a VM to a file and back.

RAM that lives in a shared file stays where it is (capability x-ignore-shared, QEMU 4.0): then
the state is some megabytes and saved in hundredths of a second. RAM of its own (a restored,
copy-on-write VM) goes into the state file as a whole.
"""

from __future__ import annotations

import time
from pathlib import Path

from xk8s.errors import MachineError
from xk8s.qemu.qmp import Qmp

_UNLIMITED = 1 << 40
LEAST_QEMU = (8, 2)
"""First QEMU with migration to ``file:``."""


def save(qmp: Qmp, path: Path, *, timeout: float = 120.0) -> None:
    """Write the state of a stopped VM to ``path``. `MachineError` when it cannot be."""
    _capabilities(qmp)
    # QEMU spares networks by default: 128 MiB/s. This goes to a file.
    qmp.execute("migrate-set-parameters", max_bandwidth=_UNLIMITED)
    qmp.execute("migrate", uri=f"file:{path}")
    _wait(qmp, "save", path, timeout)


def load(qmp: Qmp, path: Path, *, timeout: float = 120.0) -> None:
    """Read a state into a VM that was started with ``incoming``; it stays stopped."""
    _capabilities(qmp)
    qmp.execute("migrate-incoming", uri=f"file:{path}")
    _wait(qmp, "restore", path, timeout)


def _capabilities(qmp: Qmp) -> None:
    # The same on both sides, or QEMU refuses the state.
    wanted = [{"capability": "x-ignore-shared", "state": True}]
    qmp.execute("migrate-set-capabilities", capabilities=wanted)


def _wait(qmp: Qmp, what: str, path: Path, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        answer = qmp.execute("query-migrate")
        status = answer.get("status")
        if status == "completed":
            return
        if status in ("failed", "cancelled") or time.monotonic() > deadline:
            raise MachineError(
                f"{qmp.name}: cannot {what} its state: {answer.get('error-desc') or status}",
                where=str(path),
            )
        time.sleep(0.002)
