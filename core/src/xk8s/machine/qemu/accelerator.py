"""KVM or TCG: decided by the CPU's flag and a trial, never by /dev/kvm being there."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Literal

from attrs import frozen

from xk8s.errors import HostError
from xk8s.util import host_programs
from xk8s.util.remembered import fingerprints
from xk8s.util.run_program import run_program

Choice = Literal["auto", "kvm", "tcg"]

PROGRAM = "qemu-system-x86_64"
STABLE_TCG = (9, 0)
"""First QEMU whose TCG runs a 6.12 kernel without random panics (measured: docs, facts)."""

# max: Go's TLS is seven times faster with ADX, BMI2 and SHA-NI, emulated as they are, than on
# Nehalem, and the kernel boots in the same time. la57: five levels of page tables would slow every
# miss down. erms, fsrm: programs and the kernel take them for a promise that `rep movsb` and `rep
# stosb` are the fastest way to copy and to clear, and TCG does them byte by byte: one MiB was
# cleared in 3.5 ms with and in 0.2 ms without them, a pipe took 4 KiB in 33 and in 11 us, and a
# cluster of one node was Ready with 4/5 of the CPU time.
_TCG_CPU = "max,la57=off,erms=off,fsrm=off"

_TRIAL_SECONDS = 10.0
_EXIT_PORT = 0xF4
# The guest of the trial: a ROM whose first instruction (at the reset vector, 16 bytes before its
# end) makes the device isa-debug-exit end QEMU: mov al,0x10; out 0xf4,al; hlt.
_ROM = bytes(0xFFF0) + bytes((0xB0, 0x10, 0xE6, _EXIT_PORT, 0xF4)).ljust(16, b"\0")
_TRIAL_EXIT = 0x10 << 1 | 1


@frozen(kw_only=True)
class Accel:
    """Accelerator and reason: how VMs are run here.

    ``args`` are QEMU's arguments for it; ``max_cpus`` limits a VM (None: no limit); ``reason``
    says why this one; ``notes`` are warnings for the user to see.
    """

    name: Literal["kvm", "tcg"]
    args: tuple[str, ...]
    reason: str
    max_cpus: int | None = None
    notes: tuple[str, ...] = ()

    def cpus(self, wanted: int) -> int:
        """``wanted`` CPUs, or as many as a VM may have here."""
        return wanted if self.max_cpus is None else min(wanted, self.max_cpus)


def decide(choice: Choice = "auto", *, program: str = PROGRAM) -> Accel:
    """Return the accelerator to use. Raises `HostError` if QEMU is missing, or if KVM was requested
    and does not work (it says whether the flag or the trial failed).
    """
    version = qemu_version(program)
    if choice == "tcg":
        return _tcg(version, "requested")
    problem = kvm_problem(program)
    if problem is None:
        reason = "the CPU has it and a trial guest ran"
        return Accel(name="kvm", args=("-accel", "kvm", "-cpu", "host"), reason=reason)
    if choice == "kvm":
        raise HostError(f"KVM cannot be used: {problem}", where="/dev/kvm", hint=_kvm_hint(problem))
    return _tcg(version, f"no KVM: {problem}")


def qemu_version(program: str = PROGRAM) -> tuple[int, int, int]:
    """Version of the installed QEMU; `HostError` if there is none."""
    found = shutil.which(program)
    if found is None:
        raise HostError(f"the program {program} is missing", hint=host_programs.hint(program))
    path = Path(found)
    # To load QEMU takes longer than to save a VM: asked once for each file of that name.
    said = fingerprints().about([path], _ask_version, "version")[path]
    major, minor, patch = map(int, said.split("."))
    return major, minor, patch


def _ask_version(program: Path) -> str:
    done = run_program([str(program), "--version"])
    found = re.search(r"version (\d+\.\d+\.\d+)", done.stdout)
    if found is None:
        raise HostError(f"{program} does not report its version", log=done.stdout + done.stderr)
    return found[1]


@functools.cache
def kvm_problem(program: str = PROGRAM) -> str | None:
    """Why KVM cannot be used, or None. The trial costs some 0.1 s, once per process."""
    if not cpu_has_virtualization(Path("/proc/cpuinfo").read_text()):
        return "the CPU flag is missing (neither vmx nor svm in /proc/cpuinfo)"
    return trial(("-accel", "kvm", "-cpu", "host"), program=program)


def cpu_has_virtualization(cpuinfo: str) -> bool:
    """Return whether the text of /proc/cpuinfo has the flag vmx (Intel) or svm (AMD)."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            return not {"vmx", "svm"}.isdisjoint(value.split())
    return False


def trial(
    args: tuple[str, ...], *, program: str = PROGRAM, seconds: float = _TRIAL_SECONDS
) -> str | None:
    """Run a guest of three instructions with these arguments; what went wrong, or None.

    The guest must really execute: an unusable /dev/kvm may open and then hang.
    """
    with tempfile.NamedTemporaryFile(prefix="xk8s-trial-", suffix=".rom") as rom:
        rom.write(_ROM)
        rom.flush()
        argv = [program, "-machine", "pc", *args, "-m", "16", "-nodefaults", "-no-user-config",
                "-display", "none", "-bios", rom.name,
                "-device", f"isa-debug-exit,iobase={_EXIT_PORT},iosize=1"]  # fmt: skip
        try:
            done = run_program(argv, timeout=seconds)
        except subprocess.TimeoutExpired:
            return f"the trial guest did not run within {seconds:.0f} s"
    if done.returncode == _TRIAL_EXIT:
        return None
    said = done.stderr.strip().splitlines()
    return f"the trial guest failed: {said[-1] if said else f'exit {done.returncode}'}"


def _tcg(version: tuple[int, int, int], reason: str) -> Accel:
    if version >= STABLE_TCG:
        args = ("-accel", "tcg,thread=multi", "-cpu", _TCG_CPU)
        return Accel(name="tcg", args=args, reason=reason)
    number = ".".join(map(str, version))
    return Accel(
        name="tcg",
        args=("-accel", "tcg", "-cpu", f"{_TCG_CPU},cx16=off"),
        reason=reason,
        max_cpus=1,
        notes=(
            f"QEMU {number} emulates some instructions incorrectly: guests get one CPU without "
            "cmpxchg16b; QEMU 9 or later lifts that (Debian 12: bookworm-backports)",
        ),
    )


def _kvm_hint(problem: str) -> str:
    if "flag" in problem:
        return "switch virtualization on in the firmware or the outer VM, or use --accel tcg"
    if "ermission denied" in problem:
        return "sudo adduser $USER kvm, then log in again; or use --accel tcg"
    return "see `xk8s doctor`; or use --accel tcg"
