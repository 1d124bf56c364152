"""Guests that reboot, as seen from outside."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.conftest import Xk8s


def until(condition: Callable[[], bool], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(1)


def boot_id(cluster: Xk8s, name: str, node: str) -> str:
    """Return "" while the guest does not answer."""
    done = cluster.start("--name", name, "exec", "-n", node, "--", "cat",
                         "/proc/sys/kernel/random/boot_id")  # fmt: skip
    out, _ = done.communicate(timeout=600)
    return out.strip() if done.returncode == 0 else ""
