"""The settings of overlay ``debian``, and the packages that every VM has."""

from __future__ import annotations

from attrs import frozen
from xk8s.errors import UsageError
from xk8s.limits import each, matching
from xk8s.overlay import Point, setting

PACKAGES_POINT = "debian.packages"

BASE_PACKAGES = (
    # What runs the machine.
    "systemd",
    "systemd-sysv",
    "udev",
    "kmod",
    "login",
    "mount",
    "util-linux",
    "procps",
    "netbase",
    "busybox-static",
    "ca-certificates",
    "qemu-guest-agent",
    # For "xk8s ssh", which needs no network.
    "openssh-server",
    "rsync",
    # What network functions and container runtimes call or link to.
    "conntrack",
    "ethtool",
    "iproute2",
    "ipset",
    "iptables",
    "ipvsadm",
    "libseccomp2",
    "libyajl2",
    "nftables",
    "socat",
    # What people look for when a network is in trouble.
    "curl",
    "iputils-ping",
    "jq",
    "ldnsutils",
    "less",
    "mtr-tiny",
    "netcat-openbsd",
    "strace",
    "tcpdump",
    "traceroute",
    "vim-tiny",
)

PACKAGE = matching(r"[a-z0-9][a-z0-9+.-]+", "the name of a Debian package")


@frozen(kw_only=True)
class DebianSettings:
    """Settings ``-s debian.…``; a change of any makes a different base image."""

    suite: str = setting(
        "trixie",
        "Debian release of the guests",
        limit=matching(r"[a-z][a-z0-9-]*", "the name of a release"),
    )
    packages: tuple[str, ...] = setting(
        (), "packages to install in addition to the standard ones", limit=each(PACKAGE)
    )
    kernel: str = setting(
        "linux-image-cloud-amd64",
        "kernel package (a meta package, or linux-image-VERSION)",
        limit=PACKAGE,
    )


def check_package(name: str) -> str:
    """Return the package name, or raise `UsageError`."""
    if problem := PACKAGE.problem(name):
        raise UsageError(
            f"{name!r} {problem}",
            where="debian.packages, debian.kernel or a fragment of debian.packages",
            hint="names consist of at least two of lower-case letters, digits, '+', '-' and '.'",
        )
    return name


def _sets(name: str) -> dict[str, str]:
    check_package(name)
    return {}


PACKAGES = Point(
    type=str,
    help="The name of a Debian package that an overlay needs in the base system of all guests; one "
    "more makes another base image, which takes minutes.",
    example="bird2",
    sets=_sets,
)
