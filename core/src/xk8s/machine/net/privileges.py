"""What this machine permits its user: network namespaces and taps."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from xk8s.errors import HostError
from xk8s.machine.net import holder
from xk8s.util import host_programs
from xk8s.util.run_program import run_program

_IF_INET6 = Path("/proc/net/if_inet6")
IPV6_REMEDY = "start the kernel without ipv6.disable=1"


def check_tun() -> None:
    """`HostError` with what to do when this user cannot open /dev/net/tun."""
    try:
        os.close(os.open(holder.TUN, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        hints = {
            errno.ENOENT: "load the kernel module: sudo modprobe tun",
            errno.ENODEV: "load the kernel module: sudo modprobe tun",
            errno.EACCES: f"allow users to open it, as udev does: sudo chmod 0666 {holder.TUN}",
            errno.EPERM: f"the container forbids it: start it with --device {holder.TUN}",
        }
        raise HostError(
            f"{holder.TUN} cannot be opened: {error.strerror}",
            where=f"user {os.getuid()}",
            hint=hints.get(error.errno or 0, "taps connect the VMs to the cluster's networks"),
        ) from error


def has_ipv6() -> bool:
    """Return whether this machine's kernel speaks IPv6 (``ipv6.disable=1`` switches it off). Nodes
    have kernels of their own.
    """
    return _IF_INET6.exists()


def check_user_namespaces() -> None:
    """`HostError` with what to do when this user cannot make a namespace and configure it."""
    done = run_program([*unshare_argv(), *ip_argv(), "link", "set", "lo", "up"])
    if done.returncode != 0:
        raise HostError(
            "this user cannot create a network namespace",
            where=" ".join(unshare_argv()),
            hint=namespace_hint(),
            log=done.stderr.strip(),
        )


def unshare_argv() -> tuple[str, ...]:
    """Return how a program gets a network namespace here: root needs no user namespace, and a user
    keeps the uid inside (if mapped to root, tcpdump would switch to a user that does not exist).
    """
    unshare = _program("unshare")
    return (unshare, "-n") if os.geteuid() == 0 else (unshare, "-U", "-c", "--keep-caps", "-n")


def private_mounts_argv() -> tuple[str, ...]:
    """Return how root starts a program whose mounts are its own."""
    return (_program("unshare"), "-m", "--propagation", "private")


def ip_argv() -> tuple[str, ...]:
    """Return the iproute2 program; `HostError` when it is missing."""
    return (_program("ip"),)


def _program(name: str) -> str:
    found = host_programs.find(name)
    if found is None:
        raise HostError(f"the program {name} is missing", hint=host_programs.hint(name))
    return found


def namespace_hint() -> str:
    """Return what to do so that the kernel permits namespaces to this user."""
    for name, bad, todo in (
        ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ("user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
        ("user/max_net_namespaces", "0", "user.max_net_namespaces=15000"),
    ):
        with contextlib.suppress(OSError):
            if Path("/proc/sys", name).read_text().strip() == bad:
                return f"allow user namespaces: sudo sysctl -w {todo}"
    return "in a container, allow it to create namespaces (seccomp and capabilities)"
