"""The programs of this machine that xk8s runs, and the packages that bring them.

`xk8s doctor` examines them. tools/prepare.py (./run) installs them, and loads this file by its
path, since there is no environment yet: so it imports the standard library alone, and is read by
any Python 3.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple


class Program(NamedTuple):
    """What has to be on this machine: a program, or a file when ``name`` is an absolute path.

    ``apt`` is the package of Debian and Ubuntu, ``dnf`` that of Fedora. Without one that is not
    ``needed``, clusters work, but something else does not.
    """

    name: str
    apt: str
    dnf: str
    purpose: str
    needed: bool = True
    instead: str = ""
    """Another path that will do, where distributions differ."""


DEBIAN_KEYS = "/usr/share/keyrings/debian-archive-trixie-stable.gpg"
"""Shows that the keyring of Debian's archive is recent enough to have the keys of the guest's
suite. Builds read the whole keyring: `xk8s.apt.KEYRING`.
"""

PROGRAMS = (
    Program(
        "/etc/ssl/certs/ca-certificates.crt", "ca-certificates", "ca-certificates", "downloads",
        instead="/etc/ssl/certs/ca-bundle.crt",
    ),
    Program("apt-get", "apt", "apt", "downloading the guest's packages"),
    Program("cpio", "cpio", "cpio", "the initramfs"),
    Program(
        DEBIAN_KEYS, "debian-archive-keyring", "debian-keyring", "checking the guest's packages",
    ),
    Program("depmod", "kmod", "kmod", "kernel modules of the guest"),
    Program("dpkg-deb", "dpkg", "dpkg", "unpacking the guest's packages"),
    Program("dumpcap", "wireshark-common", "wireshark-cli", "captures of many links", needed=False),
    Program("ip", "iproute2", "iproute", "networks between VMs"),
    Program("mkfs.erofs", "erofs-utils", "erofs-utils", "layer images"),
    Program("mkfs.ext4", "e2fsprogs", "e2fsprogs", "volumes of nodes"),
    Program("mmdebstrap", "mmdebstrap", "mmdebstrap", "the guest's base system"),
    Program("newuidmap", "uidmap", "shadow-utils", "building the base system without root"),
    Program("qemu-system-x86_64", "qemu-system-x86", "qemu-system-x86-core", "the VMs"),
    Program("setpriv", "util-linux", "util-linux", "running QEMU without privileges"),
    Program("ssh", "openssh-client", "openssh-clients", "xk8s ssh", needed=False),
    Program(
        "skopeo", "skopeo", "skopeo",
        "image stores: that of CRI-O, and those of podman on this machine",
    ),
    Program(
        "slirp4netns", "slirp4netns", "slirp4netns", "the internet for VMs (cluster.outside)",
    ),
    Program("tcpdump", "tcpdump", "tcpdump", "xk8s net tcpdump", needed=False),
    Program("unshare", "util-linux", "util-linux", "network namespaces"),
    Program("xz", "xz-utils", "xz", "packages and kernel modules"),
    Program("zstd", "zstd", "zstd", "packages and releases"),
)  # fmt: skip

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"

_FAMILIES = {"debian": "apt", "ubuntu": "apt", "fedora": "dnf", "rhel": "dnf", "centos": "dnf"}

_INSTALL = {
    # Without debconf's questions: wireshark-common has one, which would stop a script.
    "apt": ("apt-get update", "env DEBIAN_FRONTEND=noninteractive apt-get install -y "
            "--no-install-recommends {}"),
    "dnf": ("dnf install -y --setopt=install_weak_deps=False {}",),
}  # fmt: skip


def find(name: str) -> str | None:
    """Return the program's path; sbin is searched too, which an ordinary user's PATH lacks."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")


def is_there(program: Program) -> bool:
    """Return whether this machine has it."""
    if program.name.startswith("/"):
        return any(Path(path).exists() for path in (program.name, program.instead) if path)
    return find(program.name) is not None


def missing(programs: Iterable[Program] = PROGRAMS) -> tuple[Program, ...]:
    """Return the programs that this machine lacks."""
    return tuple(program for program in programs if not is_there(program))


def package_manager(os_release: str | None = None) -> str:
    """``apt``, ``dnf``, or "" where packages have names that are not known here.

    ``os_release`` is the text of /etc/os-release. Which programs are there says less: Fedora has a
    package of apt-get.
    """
    if os_release is None:
        try:
            os_release = Path("/etc/os-release").read_text(errors="replace")
        except OSError:
            return ""
    for key in ("ID", "ID_LIKE"):
        for match in re.findall(rf'^{key}="?([^"\n]*)"?\s*$', os_release, re.MULTILINE):
            for word in match.split():
                if word in _FAMILIES:
                    return _FAMILIES[word]
    return ""


def packages(programs: Iterable[Program], manager: str) -> tuple[str, ...]:
    """Return the packages that bring the programs, each once."""
    return tuple(
        dict.fromkeys(program.apt if manager == "apt" else program.dnf for program in programs)
    )


def install_line(names: Sequence[str], manager: str, *, root: bool | None = None) -> str:
    """One line of shell that installs packages and asks nothing.

    ``root``: whether who runs it is root and needs no sudo; by default whether this process is.
    """
    sudo = "" if (os.geteuid() == 0 if root is None else root) else "sudo "
    steps = [step.format(" ".join(names)) for step in _INSTALL[manager]]
    return " && ".join(sudo + step for step in steps)


def hint(*names: str) -> str:
    """Return how to get these programs, for an error about a missing one. The line installs
    everything else that is missing too, so that nobody has to come back for each.
    """
    manager = package_manager()
    if not manager or not {program.name for program in PROGRAMS}.issuperset(names):
        return f"install the package of {' and '.join(names)} on this machine"
    wanted = [program for program in PROGRAMS if program.name in names or not is_there(program)]
    return install_line(packages(wanted, manager), manager)
