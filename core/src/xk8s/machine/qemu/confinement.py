"""What QEMU may still do on this machine, should a guest break out into it.

No part of the machine that the guest sees: a saved state fits with and without.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from xk8s.errors import HostError
from xk8s.machine.qemu.accelerator import PROGRAM, trial
from xk8s.machine.qemu.command import MachineSpec
from xk8s.util import host_programs
from xk8s.util.remembered import fingerprints

SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


def confined(spec: MachineSpec, argv: list[str]) -> list[str]:
    """Return the command of a VM as it is run: without privileges, and if this QEMU can with a
    filter of system calls: no other program, no other user, no priorities.
    """
    if sandbox_problem(spec.program) is None:
        argv = [*argv, "-sandbox", SANDBOX]
    return [*privileges_argv(spec), *argv]


def privileges_argv(spec: MachineSpec) -> tuple[str, ...]:
    """Return what runs QEMU with no capability, even for root, and with no way to get one."""
    setpriv = host_programs.find("setpriv")
    if setpriv is None:
        raise HostError("the program setpriv is missing", hint=host_programs.hint("setpriv"))
    if os.geteuid() != 0:
        return (setpriv, "--no-new-privs")
    # Files of another user (sudo with that user's home) are root's by this privilege alone.
    kept = "" if all(_is_own(path) for path in _paths(spec)) else ",+dac_override"
    return (setpriv, "--no-new-privs", "--inh-caps=-all", f"--bounding-set=-all{kept}")


def sandbox_problem(program: str = PROGRAM) -> str | None:
    """Return why this QEMU cannot filter its system calls, or None."""
    path = shutil.which(program)
    if path is None:
        return f"{program} is missing"
    # Asked once for each file of that name: to load QEMU takes longer than to save a VM.
    return fingerprints().about([Path(path)], _ask, "sandbox")[Path(path)] or None


def _ask(program: Path) -> str:
    """Why it cannot, or ""."""
    # A VM that runs to its end: with an option alone QEMU would not load its filter.
    problem = trial(("-accel", "tcg", "-sandbox", SANDBOX), program=str(program), seconds=60.0)
    if problem is None:
        return ""
    if "sandbox" not in problem:  # something else, which may be over the next time
        raise HostError(f"{program} does not run a VM: {problem}", hint="`xk8s doctor`")
    return "this QEMU was built without seccomp"


def _paths(spec: MachineSpec) -> Iterator[Path]:
    files = [spec.kernel, spec.initrd, *(image.path for image in spec.images)]
    files += [disk.path for disk in spec.disks]
    files += [spec.memory.file] if spec.memory.file else []
    for path in files:
        yield from (path, path.parent)
    yield from (spec.console_log.parent, spec.pidfile.parent, spec.sockets.qmp.parent)


def _is_own(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_uid == os.geteuid()
    return True
