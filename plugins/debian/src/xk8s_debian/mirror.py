"""The source of packages: the mirror that this machine's own apt uses."""

from __future__ import annotations

import os

from xk8s.apt import index_targets, require_keyring, require_mirror


def sources_list(suite: str) -> list[str]:
    """Return lines for sources.list: the release and its updates, and its security updates if the
    host has an archive of those (not beside a mirror chosen by XK8S_DEBIAN_MIRROR, which must be
    the only one contacted).

    Raises `HostError` on a machine whose apt knows no Debian mirror, or that lacks the keyring.
    """
    mirror, keyring = require_mirror(), require_keyring()
    archives = [(mirror, suite), (mirror, f"{suite}-updates")]
    if not os.environ.get("XK8S_DEBIAN_MIRROR"):
        archives += [
            (uri, f"{suite}-security") for uri in security_archives(index_targets("$(REPO_URI)"))
        ]
    return [f"deb [signed-by={keyring}] {uri} {name} main" for uri, name in archives]


def security_archives(uris: str) -> list[str]:
    """Return the first security archive among addresses of archives, a line each; or none. The last
    part of its path is the same on every mirror.
    """
    return [uri for uri in uris.split() if uri.rstrip("/").endswith("/debian-security")][:1]
