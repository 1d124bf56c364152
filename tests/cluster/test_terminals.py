"""A person's terminal in a node, and their own words on the command lines of QEMU and kernel."""

from __future__ import annotations

import os
import pty
import re
import select
import sys
import time
from collections.abc import Iterator

import pytest

from tests.conftest import Xk8s

pytestmark = pytest.mark.cluster

NAME = ("--name", "term")
SMALL = ("--nodes", "1", "--routers", "0", "--memory", "control-plane=384")


@pytest.fixture(scope="module")
def cluster(xk8s: Xk8s) -> Iterator[Xk8s]:
    own = ("-s", "cluster.kernel_args=xk8s.test=1",
           "-s", "cluster.qemu_args=-object rng-builtin,id=mine "
                 "-device virtio-rng-pci,rng=mine,max-bytes=1024,period=80000")  # fmt: skip
    try:
        xk8s(*NAME, "up", "debian", *SMALL, *own, timeout=1800)
        yield xk8s
    finally:
        xk8s(*NAME, "down")


def typed(cluster: Xk8s, verb: str, keys: bytes, until: str, seconds: float = 90) -> str:
    """Run an interactive verb on a terminal of our own, type ``keys`` again and again until the
    screen shows ``until``, then leave with Ctrl-]; what was on the screen.
    """
    pid, fd = pty.fork()
    if pid == 0:
        words = [sys.executable, "-m", "xk8s.cli", *NAME, verb, "vm-001"]
        os.execve(sys.executable, words, cluster.environment)
    screen, deadline, again = b"", time.monotonic() + seconds, 0.0
    try:
        while not re.search(until, screen.decode(errors="replace"), re.M):
            assert time.monotonic() < deadline, screen
            if time.monotonic() > again:
                os.write(fd, keys)
                again = time.monotonic() + 10
            if select.select([fd], [], [], 0.5)[0]:
                screen += os.read(fd, 4096)
    finally:
        os.write(fd, b"\x1d")
        _, status = os.waitpid(pid, 0)
        os.close(fd)
    assert os.waitstatus_to_exitcode(status) == 0, screen
    return screen.decode(errors="replace")


def test_a_shell_in_a_node(cluster: Xk8s) -> None:
    typed(cluster, "shell", b"echo $((6 * 7)) on $(hostname)\r", r"[\r\n]42 on vm-001")


def test_the_kernels_console(cluster: Xk8s) -> None:
    typed(cluster, "console", b"\recho $((6 * 8)) on $(tty)\r", r"[\r\n]48 on /dev/ttyS0")


def test_own_words_reach_kernel_and_qemu(cluster: Xk8s) -> None:
    arguments = cluster(*NAME, "exec", "vm-001", "--", "cat", "/proc/cmdline")
    assert " xk8s.test=1" in arguments
    # The device is there, and the kernel draws from it.
    current = "/sys/devices/virtual/misc/hw_random/rng_current"
    cluster(*NAME, "exec", "vm-001", "--", "modprobe", "virtio_rng")
    assert "virtio_rng" in cluster(*NAME, "exec", "vm-001", "--", "cat", current)


def test_a_word_that_qemu_does_not_know_is_told_and_leaves_nothing(xk8s: Xk8s) -> None:
    error = xk8s("--name", "wrong", "up", "debian", *SMALL, "-s", "cluster.qemu_args=-no-such-word",
                 code=8)  # fmt: skip
    assert "-no-such-word: invalid option" in error
    assert "wrong" not in [status["name"] for status in xk8s.json("status", "--all", "--json")]
    # But what QEMU said, for `xk8s report`, until the name is used again.
    xk8s("--name", "wrong", "down")
