"""Making the base system: mmdebstrap, then images of it, all inside one user namespace."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Protocol

from xk8s import subordinate_ids
from xk8s.errors import ArtifactError, BuildError, HostError

from xk8s_debian.kernel import BOOT_MODULES, facts_to_json, parse_facts

PRODUCTS = (
    "base.erofs",
    "modules.erofs",
    "kernel.img",
    "kernel-config",
    "kernel-release",
    "busybox",
    "packages.txt",
)
"""Files that the customize hook leaves; beside them the directory ``modules``."""

MEMBERS = (*PRODUCTS, "modules", "kernel-facts.json")

_EPOCH = "1735689600"
"""2025-01-01: the date of everything that a package's scripts create."""

_UUID = "786b3873-6261-4e73-a564-656269616e00"

PATHS_LEFT_OUT = (
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
    "/usr/share/vim/vim*/doc/*",
    "/usr/share/bash-completion/*",
    "/usr/lib/udev/hwdb.d/*",
    "/usr/lib/x86_64-linux-gnu/gconv/*",
)
"""Paths that are not unpacked: documents, translations, and tables for hardware that a VM lacks."""

_PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "mkfs.erofs": "erofs-utils",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
    "xz": "xz-utils",
}


class RunProgram(Protocol):
    """Function that runs a program to its end; `BuildError` with its last lines if it fails."""

    def __call__(self, argv: Sequence[str | Path], *, env: Mapping[str, str]) -> str:
        """Return its output."""


def build_base(
    out: Path,
    *,
    suite: str,
    packages: Sequence[str],
    kernel: str,
    sources: Sequence[str],
    run: RunProgram,
) -> None:
    """Write `MEMBERS` into the directory ``out``.

    ``sources`` are lines for sources.list. Raises `HostError` if this machine cannot make it,
    `ArtifactError` with the tail of mmdebstrap's output when it fails.
    """
    mode = _mode()
    _check_programs()
    argv = [
        "mmdebstrap",
        f"--mode={mode}",
        "--variant=essential",
        "--format=null",
        f"--include={','.join(packages)}",
        '--aptopt=APT::Install-Recommends "false"',
        '--aptopt=Acquire::Retries "3"',
        *(f"--dpkgopt=path-exclude={path}" for path in PATHS_LEFT_OUT),
        # Through the environment: a user's files are unreadable inside the namespace, and
        # mmdebstrap prints the whole text of a hook.
        '--customize-hook=sh -c "$XK8S_HOOK" customize "$1"',
        "--customize-hook=" + shlex.join(["copy-out", *_in_chroot(), str(out)]),
        suite,
        "-",
        *sources,
    ]
    environment = {
        "PATH": search_path(),
        "LC_ALL": "C.UTF-8",
        "SOURCE_DATE_EPOCH": _EPOCH,
        "XK8S_HOOK": customize_script(),
        "XK8S_KERNEL": kernel,
        "XK8S_BOOT_MODULES": " ".join(BOOT_MODULES),
        "XK8S_UUID": _UUID,
    }
    try:
        run(argv, env=environment)
    except BuildError as error:
        raise ArtifactError(
            "mmdebstrap could not make the base system",
            where="debian-base",
            hint="its last lines say why; a mirror that does not answer and a package that the "
            "suite does not have (-s debian.packages=…) are the usual causes",
            log=error.log,
        ) from error
    _write_facts(out)
    for path in (out, *out.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.name == "busybox" else 0o644)


def _write_facts(out: Path) -> None:
    facts = parse_facts(
        release=(out / "kernel-release").read_text().strip(),
        config=(out / "kernel-config").read_text(),
        modules_dep=(out / "modules" / "modules.dep").read_text(),
        modules_builtin=(out / "modules" / "modules.builtin").read_text(),
    )
    (out / "kernel-facts.json").write_text(facts_to_json(facts))


def customize_script() -> str:
    """Return the text of the hook that makes the images."""
    return (resources.files("xk8s_debian") / "data" / "customize.sh").read_text()


def search_path() -> str:
    """Return $PATH with the directories that ordinary users lack."""
    return os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/local/sbin:/usr/sbin:/sbin"


def _in_chroot() -> list[str]:
    return [f"/xk8s/{name}" for name in (*PRODUCTS, "modules")]


def _check_programs() -> None:
    path = search_path()
    missing = [program for program in _PROGRAMS if shutil.which(program, path=path) is None]
    if missing:
        packages = " ".join(dict.fromkeys(_PROGRAMS[program] for program in missing))
        raise HostError(
            f"missing programs: {', '.join(missing)}",
            where="debian-base",
            hint=f"apt install {packages}",
        )


def _mode() -> str:
    """Return how mmdebstrap becomes root: really, or in a user namespace with subordinate ids."""
    if os.geteuid() == 0:
        return "root"
    user = subordinate_ids.login()
    problems = [
        f"no program {program} (package uidmap)"
        for program in ("newuidmap", "newgidmap")
        if shutil.which(program) is None
    ]
    problems += [
        f"no range of 65536 ids for {user} in {path}"
        for path in subordinate_ids.FILES
        if not subordinate_ids.has_range(path)
    ]
    if problems:
        raise HostError(
            f"cannot make the base system as user {user}: {'; '.join(problems)}",
            where="debian-base",
            hint=f"as root, once: apt install uidmap && {subordinate_ids.remedy()}",
        )
    return "unshare"
