"""The QEMU process of one VM: started detached, watched until its monitor answers."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from attrs import define, field, frozen

from xk8s.errors import HostError, MachineError
from xk8s.faults.recognise import core_hints
from xk8s.machine.qemu.command import MachineSpec, command
from xk8s.machine.qemu.confinement import confined
from xk8s.machine.qemu.qmp import Qmp
from xk8s.util import host_programs
from xk8s.util.lines import read_end
from xk8s.util.log import get_logger
from xk8s.util.processes import Process, cluster_environment

log = get_logger(__name__)

START_SECONDS = 60.0


@frozen(kw_only=True)
class Started:
    """A running VM."""

    process: Process


@define(eq=False, kw_only=True)
class Spawned:
    """A QEMU that was started and has not answered yet. See `spawn`."""

    spec: MachineSpec
    process: Process
    stderr: Path
    _child: subprocess.Popen[bytes] = field(repr=False)

    def wait(self, timeout: float = START_SECONDS) -> Started:
        """Wait until its monitor answers. `MachineError` with its own words when it ended, or
        says nothing in time (then it is killed).
        """
        with log.timed("qemu_answered", node=self.spec.name, pid=self._child.pid):
            return self._wait(timeout)

    def _wait(self, timeout: float) -> Started:
        deadline = time.monotonic() + timeout
        while True:
            if self._child.poll() is not None:
                raise self._ended()
            try:
                with Qmp(self.spec.sockets.qmp, self.spec.name, timeout=5.0) as qmp:
                    qmp.poll("query-status")
                    return Started(process=self.process)
            except MachineError:
                if time.monotonic() > deadline:
                    self.kill()
                    raise
            time.sleep(0.02)

    def kill(self) -> None:
        """End it at once and reap it."""
        self._child.kill()
        self._child.wait()

    def _ended(self) -> MachineError:
        code = self._child.returncode
        text = read_end(self.stderr, 1 << 20).strip()
        how = f"signal {-code}" if code < 0 else f"exit {code}"
        last = text.splitlines()[-1] if text else "no output"
        return MachineError(
            f"{self.spec.name}: QEMU ended at its start ({how}): {last}",
            where=str(self.stderr),
            hint="`xk8s doctor` checks this machine",
            log=text,
            faults=core_hints(text),
        )


def spawn(
    spec: MachineSpec, *, runtime_dir: Path, stderr: Path, env: Mapping[str, str] | None = None
) -> Spawned:
    """Start QEMU in a session of its own, marked as the cluster's, and return at once.

    ``stderr`` is a file for what it says. Close the taps' descriptors afterwards.
    """
    for path in spec.sockets.all:
        if len(os.fsencode(path)) > 107:
            raise HostError(
                "the path of a socket is longer than the kernel allows (107 bytes)",
                where=str(path),
                hint="set XK8S_RUNTIME to a directory with a short name",
            )
        path.unlink(missing_ok=True)
    stderr.unlink(missing_ok=True)
    argv = command(spec)
    if shutil.which(spec.program) is None:
        raise HostError(
            f"the program {spec.program} is missing", hint=host_programs.hint(spec.program)
        )
    try:
        with open(stderr, "wb", opener=_private) as said:
            child = subprocess.Popen(
                confined(spec, argv),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=cluster_environment(runtime_dir, env),
                pass_fds=spec.fds,
                start_new_session=True,
                umask=0o077,  # sockets, logs and the pid file are for this user alone
            )
    except OSError as error:
        raise HostError(
            f"{spec.program} cannot be started: {error.strerror}",
            hint=host_programs.hint(spec.program),
        ) from error
    log.info("qemu_started", node=spec.name, argv=argv, pid=child.pid)
    return Spawned(spec=spec, process=Process.of(child.pid), stderr=stderr, child=child)


def start(
    spec: MachineSpec,
    *,
    runtime_dir: Path,
    stderr: Path,
    env: Mapping[str, str] | None = None,
    timeout: float = START_SECONDS,
) -> Started:
    """`spawn` and wait. No process is left behind by an error or Ctrl-C."""
    spawned = spawn(spec, runtime_dir=runtime_dir, stderr=stderr, env=env)
    try:
        return spawned.wait(timeout)
    except BaseException:
        spawned.kill()
        raise


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_EXCL, 0o600)
