"""This machine's apt: its Debian mirror, and the keyring that verifies packages."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""Keyring from the package debian-archive-keyring: it signs every suite of Debian."""


@functools.cache
def host_mirror() -> str | None:
    """Return the URI of the Debian mirror that this machine's apt uses (its main archive, not the
    security archive), or None if this is not Debian or there is no such source.
    ``XK8S_DEBIAN_MIRROR`` takes precedence.
    """
    if chosen := os.environ.get("XK8S_DEBIAN_MIRROR"):
        return chosen
    if shutil.which("apt-get") is None:
        return None
    form = "$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)\t$(ORIGIN)"
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", form, "Identifier: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    return pick_mirror(told.stdout, codename=_debian_codename())


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
