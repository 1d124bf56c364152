"""The console of a VM that boots: the wait for a line on it, and why none will come."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from xk8s.cluster.handle import machine_error, tail
from xk8s.cluster.state.node_paths import qemu_log
from xk8s.errors import MachineError
from xk8s.machine.qemu.command import MachineSpec
from xk8s.machine.qemu.process import Spawned

_STALLED = b"kthread timer wakeup didn't happen"
_STEP = 0.01


class StalledError(MachineError):
    """The guest will not continue; a second boot may succeed."""


def wait_for_line(
    vm: Spawned, text: str, seconds: float, *, stop: threading.Event | None = None
) -> None:
    """Return once the console of a VM shows ``text``. `MachineError` with the end of the console
    when the VM ends before that, ``seconds`` are over or ``stop`` is set; `StalledError` when a
    CPU of the guest lost its timer.
    """
    wanted, console = text.encode(), vm.spec.console_log
    stop = threading.Event() if stop is None else stop
    deadline = time.monotonic() + seconds
    while True:
        alive = vm.process.alive  # asked first: what a VM wrote before it ended counts
        content = _content(console)
        if wanted in content:
            return
        if not alive:
            raise boot_error(vm.spec, f"the VM ended before its console said {text!r}")
        if time.monotonic() > deadline:
            raise boot_error(vm.spec, f"its console did not say {text!r} in {seconds:.0f} s")
        if _STALLED in content:
            raise StalledError(f"{vm.spec.name}: a CPU of the guest lost its timer")
        if stop.wait(_STEP):
            raise boot_error(vm.spec, "given up")


def boot_error(spec: MachineSpec, message: str) -> MachineError:
    """Return an error with the end of the console, or of what QEMU wrote if that is empty."""
    console = spec.console_log
    error = machine_error(
        f"{spec.name}: {message}", console, hint="its console shows how far it got"
    )
    error.log = error.log or tail(qemu_log(console))
    return error


def is_stalled(console: Path) -> bool:
    """Return whether a booting guest reports that a CPU lost its timer, and so will not continue.
    That happened to one of some hundred boots without KVM, before the first program ran.
    """
    return _STALLED in _content(console)


def _content(console: Path) -> bytes:
    try:
        return console.read_bytes()
    except FileNotFoundError:
        return b""
