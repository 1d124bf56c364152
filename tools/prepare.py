"""Set up this machine for xk8s: Debian packages that are missing, then the Python environment.

Called by ``./run`` when its stamp does not match; Python's standard library only, because that
is all a fresh machine has. ``prepare.py --packages`` does the Debian part alone (what root runs
for a user without sudo).
"""

from __future__ import annotations

import argparse
import fcntl
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
EXIT_HOST = 5
"""xk8s.errors.HostError: this machine lacks something."""

if TYPE_CHECKING:
    from xk8s.util import host_programs
else:
    # By its path: there is no environment yet that could have xk8s.
    _spec = importlib.util.spec_from_file_location(
        "host_programs", ROOT / "core" / "src" / "xk8s" / "util" / "host_programs.py"
    )
    host_programs = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(host_programs)

VENV = "python3-venv"
"""Of Debian's packages the one that no program shows; of Ubuntu's, too."""

PURPOSES = {program.apt: program.purpose for program in host_programs.PROGRAMS}
PURPOSES[VENV] = "the Python environment"

OPTIONAL = {program.apt for program in host_programs.PROGRAMS if not program.needed}
"""Clusters work without these: they are installed where that can be done, and mentioned else."""

QEMU = "qemu-system-x86"
QEMU_WANTED = 9
"""Below it, QEMU without KVM makes the guest's kernel panic at random (docs/explanation)."""


class Failed(Exception):
    """What failed and what to do; shown without a traceback, exit code 5."""


def say(text: str) -> None:
    """One line of progress: stderr, so that stdout stays that of the command."""
    print(f"xk8s: {text}", file=sys.stderr, flush=True)


# --- what is missing --------------------------------------------------------------------


def has_venv(python: str) -> bool:
    """Return whether ``python -m venv`` works: Debian keeps ensurepip in a package of its own."""
    done = subprocess.run([python, "-c", "import venv, ensurepip"], stderr=subprocess.DEVNULL)
    return done.returncode == 0


def qemu_major() -> int | None:
    """Major version of the installed QEMU, None when there is none."""
    program = host_programs.find("qemu-system-x86_64")
    if program is None:
        return None
    text = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    match = re.search(r"version (\d+)\.", text)
    return int(match[1]) if match else None


def kvm_usable() -> bool:
    """CPU flag, device and a trial: /dev/kvm may open and be unusable all the same."""
    flags = re.search(r"^flags\s*:(.*)$", read("/proc/cpuinfo"), re.MULTILINE)
    if not flags or not {"vmx", "svm"} & set(flags[1].split()):
        return False
    try:
        descriptor = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.close(fcntl.ioctl(descriptor, 0xAE01, 0))  # KVM_CREATE_VM returns a descriptor
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def read(path: str) -> str:
    """Return the file's text, empty when it cannot be read."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def missing(python: str = sys.executable) -> list[str]:
    """List missing packages, including a QEMU that is too old to be used without KVM."""
    found = [] if has_venv(python) else [VENV]
    found += host_programs.packages(host_programs.missing(), "apt")
    if QEMU not in found and (qemu_major() or 0) < QEMU_WANTED and not kvm_usable():
        found.append(QEMU)
    return found


# --- apt --------------------------------------------------------------------------------


def codename() -> str:
    """Debian's codename of this machine, e.g. bookworm; empty if it is not Debian."""
    release = dict(
        line.partition("=")[::2] for line in read("/etc/os-release").splitlines() if "=" in line
    )
    if release.get("ID") != "debian":
        return ""
    return release.get("VERSION_CODENAME", "").strip('"')


def debian_sources(etc: Path, suite: str) -> dict[str, str]:
    """Return the host's own apt sources that have ``suite``, and the same for ``suite``-backports.

    Returns file name -> text for a directory that stands in for sources.list.d. Both forms are
    read: deb822 (``*.sources``) and one-line (``*.list``, sources.list). Nobody else's sources
    are copied: a broken one of them must not stop the set-up.
    """
    files: dict[str, str] = {}
    backports: list[str] = []
    for path in sorted((etc / "sources.list.d").glob("*.sources")):
        own, ours = [], []
        for stanza in re.split(r"\n\s*\n", path.read_text(errors="replace")):
            text = "\n".join(li for li in stanza.splitlines() if not li.startswith("#"))
            suites = re.search(r"^Suites:(.*)$", text, re.MULTILINE | re.IGNORECASE)
            if not suites or re.search(r"^Enabled:\s*no", text, re.MULTILINE | re.IGNORECASE):
                continue
            names = suites[1].split()
            if any(name.split("/")[0].startswith(suite) for name in names):
                own.append(text.strip())
            if suite in names:
                line = f"Suites: {suite}-backports"
                ours.append(text.strip().replace(suites[0], line))
        if own:
            files[path.name] = "\n\n".join(own) + "\n"
        backports += ours
    lists = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*.list"))]
    lines: list[str] = []
    for path in lists:
        own = []
        for line in read(str(path)).splitlines():
            match = re.match(r"deb\s+(\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(.+)$", line.strip())
            if not match:
                continue
            if match[3].split("/")[0].startswith(suite):
                own.append(line.strip())
            if match[3] == suite:
                lines.append(f"deb {match[1] or ''}{match[2]} {suite}-backports {match[4]}")
        if own and path.name != "sources.list":  # that one is read from its own place
            files[path.name] = "\n".join(own) + "\n"
    if backports:
        files["xk8s-backports.sources"] = "\n\n".join(backports[:1]) + "\n"
    elif lines:
        files["xk8s-backports.list"] = lines[0] + "\n"
    return files


def as_root() -> list[str] | None:
    """Return the prefix that makes a command run as root, None when there is no way."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo is None:
        return None
    if subprocess.run([sudo, "-n", "true"], stderr=subprocess.DEVNULL).returncode == 0:
        return [sudo, "-n"]
    # A password can be asked for only where a person sits.
    return [sudo] if sys.stdin.isatty() and sys.stderr.isatty() else None


def apt(prefix: Sequence[str], log: Path, *arguments: str) -> int:
    """Run apt-get without questions, its output into ``log``."""
    command = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"]
    command += ["apt-get", "-o", "DPkg::Lock::Timeout=300", *arguments]
    with log.open("ab") as file:
        file.write(f"$ {shlex.join(command)}\n".encode())
        file.flush()
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        ).returncode


def tail(log: Path, lines: int = 25) -> str:
    """Return the end of a log, indented."""
    return "\n".join("  | " + line for line in read(str(log)).splitlines()[-lines:])


def apt_major(options: Sequence[str], package: str, suite: str = "") -> int:
    """Major version that apt would install (with ``-t suite``), 0 when there is none."""
    target = ["-t", suite] if suite else []
    done = subprocess.run(
        ["apt-cache", *options, *target, "policy", package], capture_output=True, text=True
    )
    match = re.search(r"Candidate:\s*(?:\d+:)?(\d+)\.", done.stdout)
    return int(match[1]) if match else 0


def install(packages: Sequence[str], prefix: Sequence[str]) -> None:
    """Install Debian packages; QEMU from backports when the release's own is too old."""
    suite = codename()
    start = time.monotonic()
    for package in packages:
        say(f"installing {package}: {PURPOSES[package]}")
    with tempfile.TemporaryDirectory(prefix="xk8s-apt-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # apt reads it as its own user
        log = directory / "log"
        sources = directory / "sources"
        sources.mkdir()
        for file, text in debian_sources(Path("/etc/apt"), suite).items():
            (sources / file).write_text(text)
        # Not the host's lists: what is not in our directory must not be forgotten there.
        options = ["-o", f"Dir::Etc::sourceparts={sources}", "-o", "APT::Get::List-Cleanup=0"]
        if apt(prefix, log, "update", *options) != 0:
            say(f"apt-get update failed; trying with the package lists that are there\n{tail(log)}")
        plain = [package for package in packages if package != QEMU and package not in OPTIONAL]
        steps = [plain] if plain else []
        if QEMU in packages:
            wanted = [QEMU]
            backports = f"{suite}-backports"
            if apt_major(options, QEMU) < QEMU_WANTED:
                if apt_major(options, QEMU, backports) >= QEMU_WANTED:
                    say(f"QEMU comes from {backports}: without KVM an older one is not stable")
                    wanted = ["-t", backports, QEMU]
                else:
                    say(f"no QEMU >= {QEMU_WANTED} available: VMs will be slower and less stable")
            steps.append(wanted)
        if optional := [package for package in packages if package in OPTIONAL]:
            steps.append(optional)
        for step in steps:
            arguments = ["install", "-y", "--no-install-recommends", *options, *step]
            if apt(prefix, log, *arguments) != 0:
                text = f"apt-get could not install {' '.join(step)}:\n{tail(log)}"
                if not OPTIONAL.issuperset(step):
                    raise Failed(text)
                say(f"{text}\nclusters work without")
    say(f"Debian packages installed ({time.monotonic() - start:.0f} s)")


def say_what_is_missing() -> None:
    """Say what is missing on a system that is not Debian: it has other packages, and perhaps other
    needs.
    """
    absent = host_programs.missing()
    if absent:
        names = ", ".join(program.name for program in absent)
        hint = host_programs.hint(*(program.name for program in absent))
        say(f"this machine lacks {names}\n  do: {hint}")


def ensure_packages(python: str) -> None:
    """Install what is missing, or say exactly what root has to run."""
    if not codename():
        say_what_is_missing()
        return
    packages = missing(python)
    if not packages:
        return
    prefix = as_root()
    if prefix is None and OPTIONAL.issuperset(packages):
        line = host_programs.install_line(packages, "apt", root=True)
        say(f"clusters work without {' and '.join(packages)}; to have them, as root run: {line}")
        return
    if prefix is None:
        raise Failed(
            f"Debian packages are missing ({' '.join(packages)}) and this user cannot become "
            f"root.\n  do: run this one line as root, then try again:\n"
            f"      {shlex.quote(str(ROOT / 'run'))} --packages"
        )
    install(packages, prefix)


# --- Python -----------------------------------------------------------------------------


def step(what: str, command: Sequence[str], log: Path) -> None:
    """Run a command with its output in ``log``; shown when it fails."""
    start = time.monotonic()
    with log.open("ab") as file:
        file.write(f"$ {shlex.join(command)}\n".encode())
        file.flush()
        code = subprocess.run(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        ).returncode
    if code != 0:
        raise Failed(f"{what} failed (exit {code}); log {log}:\n{tail(log)}")
    say(f"{what} ({time.monotonic() - start:.0f} s)")


def pinned(lock: str, name: str) -> str:
    """Return the part of requirements.lock that is about one package, with its hashes."""
    match = re.search(rf"^{re.escape(name)}==.*(?:\n +.*)*", lock, re.MULTILINE)
    if match is None:
        raise Failed(f"{name} is not in requirements.lock")
    return match[0] + "\n"


def members(root: Path = ROOT) -> list[Path]:
    """Return the workspace's distributions: core first."""
    return [root / "core", *sorted(p.parent for p in root.glob("plugins/*/pyproject.toml"))]


def ensure_python(venv: Path, python: str) -> None:
    """Make the environment as requirements.lock says; only what is missing is done."""
    log = venv.with_name(venv.name + ".log")
    log.unlink(missing_ok=True)
    unfinished = begin(venv)
    inside = venv / "bin" / "python"
    if not inside.exists() or subprocess.run([inside, "-c", ""]).returncode != 0:
        # --clear: an upgrade of Debian leaves an environment of a Python that is gone
        step(f"made {venv.name}", [python, "-m", "venv", "--clear", str(venv)], log)
    lock = (ROOT / "requirements.lock").read_text()
    uv = venv / "bin" / "uv"
    if not uv.exists():
        with tempfile.TemporaryDirectory(prefix="xk8s-uv-") as name:
            file = Path(name) / "uv.lock"
            file.write_text(pinned(lock, "uv"))
            if subprocess.run([inside, "-m", "pip", "--version"], capture_output=True).returncode:
                step("got pip", [str(inside), "-m", "ensurepip"], log)
            command = [str(inside), "-m", "pip", "install", "--quiet", "--no-deps"]
            step("got uv", [*command, "--require-hashes", "-r", str(file)], log)
    install = [str(uv), "pip", "install", "--python", str(inside)]
    step(
        "installed the locked Python packages",
        [*install, "--require-hashes", "-r", str(ROOT / "requirements.lock")],
        log,
    )
    editable = [word for path in members() for word in ("-e", str(path))]
    # hatchling is in the lock: nothing unpinned is fetched to build our own packages
    step(
        "installed xk8s and its overlays",
        [*install, "--no-deps", "--no-build-isolation", *editable],
        log,
    )
    # ./run writes its stamp next: after a power loss a stamp that reached the disk must not vouch
    # for an environment of empty files.
    step("flushed it to the disk", ["sync", "-f", str(venv)], log)
    unfinished.unlink()
    log.unlink()


def begin(venv: Path) -> Path:
    """Return the mark that the environment is being changed, on the disk by now. One of before the
    last start of this machine: files may be empty that count as installed, so all goes.
    """
    mark = venv.with_name(venv.name + ".unfinished")
    now = read("/proc/sys/kernel/random/boot_id")
    if mark.exists() and mark.read_text(errors="replace") != now:
        say(f"a restart of this machine cut off the set-up of {venv}: it begins again")
        shutil.rmtree(venv, ignore_errors=True)
    for path, flags in ((mark, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), (mark.parent, os.O_RDONLY)):
        descriptor = os.open(path, flags, 0o644)
        if path == mark:
            os.write(descriptor, now.encode())
        os.fsync(descriptor)
        os.close(descriptor)
    return mark


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", action="store_true", help="the Debian packages alone")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    options = parser.parse_args(arguments)
    try:
        if sys.version_info < (3, 11):  # noqa: UP036 - the host's Python, not the project's
            raise Failed(f"{sys.executable} is too old: Python 3.11 is needed (Debian 12 has it)")
        if os.environ.get("XK8S_RUN_APT", "1") != "0":
            ensure_packages(sys.executable)
        if not options.packages:
            ensure_python(options.venv, sys.executable)
    except Failed as error:
        say(str(error))
        return EXIT_HOST
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
