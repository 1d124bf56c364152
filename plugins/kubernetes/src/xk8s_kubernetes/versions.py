"""Versions of Kubernetes, and which of them work together.

The rules are those of https://kubernetes.io/releases/version-skew-policy/ for one API server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from attrs import frozen
from xk8s.errors import UsageError

OLDEST = (1, 33)
"""First version that supports our whole configuration: kube-proxy's mode nftables is no longer
behind a gate, and the controller manager knows each controller that is switched off.
"""

APISERVER = "kube-apiserver"
MAY_BE_OLDER = {
    "kube-controller-manager": 1,
    "kube-scheduler": 1,
    "kubelet": 3,
    "kube-proxy": 3,
}
"""Number of minor versions that a program may be older than the API server. None may be newer."""

CLIENT = "kubectl"
CLIENT_MAY_DIFFER = 1

POLICY = "https://kubernetes.io/releases/version-skew-policy/"

_RELEASE = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(-(?:alpha|beta|rc)\.\d+)?")
_ANY = re.compile(r"v(\d+)\.(\d+)\.(\d+)(?:[-+].*)?", re.DOTALL)


@frozen(kw_only=True)
class Version:
    """Version that a program reports: ``text`` as it is, and the two numbers that count."""

    text: str
    major: int
    minor: int

    @property
    def line(self) -> tuple[int, int]:
        """The minor version, for comparison."""
        return self.major, self.minor


def parse(text: str) -> Version | None:
    """Parse a version as programs contain it: a release, or a development build such as
    v1.37.0-alpha.0.123+abcdef. None for one that was not stamped (v0.0.0-master+$Format…) and for
    anything else.
    """
    found = _ANY.fullmatch(text)
    if found is None or int(found[1]) == 0:
        return None
    return Version(text=text, major=int(found[1]), minor=int(found[2]))


def release(text: str) -> str:
    """Return the setting ``kubernetes.version`` in the form of releases: v1.36.3. `UsageError` if
    it is not a release, or too old.
    """
    found = _RELEASE.fullmatch(text.strip())
    where = f"kubernetes.version={text}"
    if found is None:
        raise UsageError(
            f"{text!r} is not a release of Kubernetes",
            where=where,
            hint="write all three numbers, as in v1.36.3 or v1.37.0-rc.1; for your own build, give "
            "its directory: -s kubernetes.dir=…",
        )
    if (int(found[1]), int(found[2])) < OLDEST:
        raise UsageError(
            f"Kubernetes {text} is too old: xk8s can configure {_line(OLDEST)} and later",
            where=where,
            hint="older ones lack options and controllers that the cluster uses",
        )
    return "v" + text.strip().removeprefix("v")


def skew(versions: Mapping[str, Version]) -> tuple[list[str], list[str]]:
    """Return (what Kubernetes does not support, what it only advises against) for programs by name.
    The caller leaves out programs whose version is unknown.
    """
    problems: list[str] = []
    advice: list[str] = []
    for name, version in versions.items():
        if version.line < OLDEST:
            problems.append(
                f"{name} {version.text} is older than {_line(OLDEST)}, the oldest that xk8s can "
                "configure"
            )
    server = versions.get(APISERVER)
    if server is None:
        return problems, advice
    for name, allowed in MAY_BE_OLDER.items():
        one = versions.get(name)
        if one is None:
            continue
        if one.line > server.line:
            problems.append(f"{name} {one.text} is newer than {APISERVER} {server.text}")
        elif one.major < server.major or server.minor - one.minor > allowed:
            problems.append(
                f"{name} {one.text} is more than {_count(allowed)} older than "
                f"{APISERVER} {server.text}"
            )
    client = versions.get(CLIENT)
    if client is not None and (
        client.major != server.major or abs(client.minor - server.minor) > CLIENT_MAY_DIFFER
    ):
        advice.append(
            f"{CLIENT} {client.text} is more than {_count(CLIENT_MAY_DIFFER)} away from "
            f"{APISERVER} {server.text}: some of its commands may not work"
        )
    return problems, advice


def _line(line: tuple[int, int]) -> str:
    return f"{line[0]}.{line[1]}"


def _count(number: int) -> str:
    return "one minor version" if number == 1 else f"{number} minor versions"
