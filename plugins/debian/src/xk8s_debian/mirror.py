"""Where packages come from: the mirror that this machine's own apt uses."""

from __future__ import annotations

import subprocess
from pathlib import Path

from xk8s.errors import HostError

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_ARCHIVES = {"debian": ("{suite}", "{suite}-updates"), "debian-security": ("{suite}-security",)}
"""Last part of an archive's address (it is the same on all mirrors) -> its suites."""


def sources_list(suite: str) -> list[str]:
    """Lines for sources.list with the release and, where the host has them, its updates.

    Raises `HostError` on a machine whose apt knows no Debian mirror.
    """
    try:
        output = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
            capture_output=True,
            check=True,
            text=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise HostError(
            f"cannot ask apt for this machine's mirror: {error}",
            where="debian-base",
            hint="the base system is made on a Debian machine, from its own mirror",
        ) from error
    lines = parse_targets(output, suite)
    if not any(line.split()[3] == suite for line in lines):
        raise HostError(
            "this machine's apt has no Debian mirror",
            where="apt-get indextargets",
            hint="have a line for the archive 'debian' in /etc/apt/sources.list",
        )
    if not _KEYRING.exists():
        raise HostError(
            f"no {_KEYRING} to verify packages with", hint="apt install debian-archive-keyring"
        )
    return lines


def parse_targets(output: str, suite: str) -> list[str]:
    """The lines from a list of archive addresses: the first one of each kind."""
    found: dict[str, str] = {}
    for uri in output.split():
        kind = uri.rstrip("/").rpartition("/")[2]
        found.setdefault(kind, uri)
    return [
        f"deb [signed-by={_KEYRING}] {found[kind]} {name.format(suite=suite)} main"
        for kind, names in _ARCHIVES.items()
        if kind in found
        for name in names
    ]
