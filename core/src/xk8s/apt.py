"""This machine's apt: its Debian mirror, and the keyring that verifies packages."""

from __future__ import annotations

import functools
import os
import re
import shutil
from pathlib import Path

from xk8s.errors import HostError
from xk8s.util import host_programs
from xk8s.util.run_program import run_program

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""Keyring from the package debian-archive-keyring: it signs every suite of Debian."""


def host_mirror() -> str | None:
    """Return the URI of the Debian mirror that this machine's apt uses (its main archive, not the
    security archive), or None if this is not Debian or there is no such source.
    ``XK8S_DEBIAN_MIRROR`` takes precedence.
    """
    return os.environ.get("XK8S_DEBIAN_MIRROR") or configured_mirror()


def require_mirror() -> str:
    """Return what `host_mirror` finds; raise `HostError` where that is nothing."""
    mirror = host_mirror()
    if mirror is None:
        raise HostError(
            "apt on this machine has no Debian mirror",
            where="apt-get indextargets",
            hint="add one to /etc/apt/sources.list, or set XK8S_DEBIAN_MIRROR to the URI of one",
        )
    return mirror


def require_keyring() -> Path:
    """Return `KEYRING`; raise `HostError` if this machine lacks it."""
    if not KEYRING.exists():
        raise HostError(f"{KEYRING} is missing", hint=host_programs.hint(host_programs.DEBIAN_KEYS))
    return KEYRING


@functools.cache
def configured_mirror() -> str | None:
    """Return the same from apt's settings alone; apt is asked once per process."""
    if shutil.which("apt-get") is None:
        return None
    form = "$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)\t$(ORIGIN)"
    return pick_mirror(index_targets(form), codename=_debian_codename())


def index_targets(form: str) -> str:
    """Return the package lists of this machine's apt, a line each in apt's ``form``, such as
    ``$(REPO_URI)``; "" when apt fails.
    """
    return run_program(["apt-get", "indextargets", "--format", form, "Identifier: Packages"]).stdout


def pick_mirror(targets: str, *, codename: str | None) -> str | None:
    """Return the main archive's URI from lines of "URI<tab>release<tab>component<tab>origin".

    The origin is empty before the host's first `apt-get update`: then the release must be
    ``codename``, the host's own if that is a Debian.
    """
    best: list[tuple[int, str]] = []
    for line in targets.splitlines():
        uri, release, component, origin = [*line.split("\t"), "", "", ""][:4]
        debian = origin == "Debian" or (not origin and release == codename is not None)
        if not debian or component != "main" or "security" in uri + release:
            continue
        best.append((0 if release == codename else 1, uri))
    return min(best)[1] if best else None


def _debian_codename() -> str | None:
    try:
        text = Path("/etc/os-release").read_text()
    except OSError:
        return None
    fields = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', text, re.MULTILINE))
    return fields.get("VERSION_CODENAME") if fields.get("ID") == "debian" else None
