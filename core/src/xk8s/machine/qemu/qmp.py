"""QMP in plain calls: QEMU's own monitor of one VM, with a time limit on everything."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

from qemu.qmp import ExecuteError, QMPClient, QMPError

from xk8s.errors import MachineError
from xk8s.machine.qemu.sockets import check_sockets
from xk8s.util.log import get_logger

log = get_logger(__name__)

T = TypeVar("T")

# It logs every failed connect at ERROR; here that is an exception like any other.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)


class Qmp:
    """A session with the monitor of VM ``name``; a context manager. QEMU serves one session at
    a time, so keep it short: the next one waits.

    Every method raises `MachineError` naming the VM.
    """

    def __init__(self, socket_path: Path, name: str, *, timeout: float = 10.0) -> None:
        """``timeout`` (seconds) holds for the connect and for each command."""
        self.name = name
        self._path = socket_path
        self._timeout = timeout
        self._runner = asyncio.Runner()
        self._client = QMPClient(name)

    def __enter__(self) -> Qmp:
        check_sockets(self._path, self.name)
        try:
            self._call("connect", self._client.connect(str(self._path)))
        except BaseException:
            self._runner.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._call("disconnect", self._client.disconnect())
        except MachineError:
            pass  # the VM is gone, which is what `quit` is for
        finally:
            self._runner.close()

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run one QMP command; underscores in argument names become dashes."""
        named = {key.replace("_", "-"): value for key, value in arguments.items()}
        log.debug("qmp_command_sent", node=self.name, command=command, arguments=named)
        with log.timed("qmp_command", node=self.name, command=command):
            return self.poll(command, named)

    def poll(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Run one QMP command that is asked again and again: it is not logged. Names of
        ``arguments`` are QEMU's.
        """
        return self._call(command, self._client.execute(command, arguments or None))

    def status(self) -> str:
        """State of the virtual CPUs, e.g. "running" or "paused"."""
        return str(self.execute("query-status")["status"])

    def quit(self) -> None:
        """End QEMU at once, like pulling the plug."""
        self.execute("quit")

    def reset(self) -> None:
        """Boot it again, like the reset button."""
        self.survive_reboots()  # the firmware resets once more by itself
        self.execute("system_reset")

    def survive_reboots(self) -> None:
        """Let a guest that resets itself boot again from now on. A VM whose guest has not booted
        yet ends then, instead; see `MachineSpec.booted`.
        """
        self.execute("set-action", reboot="reset")

    def end_with_reboot(self) -> None:
        """Let a guest that resets itself end QEMU from now on."""
        self.execute("set-action", reboot="shutdown")

    def set_link(self, device: str, *, up: bool) -> None:
        """Give or take the carrier of an interface (``nic0``, ``nic1`` …): the guest sees it."""
        self.execute("set_link", name=device, up=up)

    def monitor(self, line: str) -> str:
        """A command of the human monitor; its output."""
        with log.timed("qmp_command", node=self.name, command="human-monitor-command", line=line):
            return str(self.poll("human-monitor-command", {"command-line": line}))

    def _call(self, what: str, work: Coroutine[Any, Any, T]) -> T:
        async def limited() -> T:
            async with asyncio.timeout(self._timeout):
                return await work

        try:
            return self._runner.run(limited())
        except TimeoutError:
            text = f"no answer within {self._timeout:.0f} s"
        except ExecuteError as error:
            text = str(error)
        except (QMPError, OSError, EOFError) as error:
            text = str(error) or type(error).__name__
        raise MachineError(
            f"{self.name}: QEMU's monitor: {what}: {text}",
            where=str(self._path),
            hint="see `xk8s status`; `xk8s down` and `xk8s up` restart it",
        )
