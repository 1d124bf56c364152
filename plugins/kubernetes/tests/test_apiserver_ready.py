"""The program that waits for the API server to be ready, with a curl that does as it is told."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

PROGRAM = files("xk8s_kubernetes").joinpath("files/control/usr/lib/xk8s/kube-apiserver-ready")


@pytest.fixture
def server() -> Iterator[subprocess.Popen[bytes]]:
    """What is started and may end."""
    with subprocess.Popen(["sleep", "100"]) as process:
        yield process
        process.kill()


def start(tmp_path: Path, server: subprocess.Popen[bytes], curl: str) -> subprocess.Popen[str]:
    (tmp_path / "curl").write_text(f'#!/bin/sh\necho $$ >"{tmp_path}/pid"\nexec {curl}\n')
    (tmp_path / "curl").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    return subprocess.Popen(
        ["bash", str(PROGRAM)],
        env={"PATH": path, "MAINPID": str(server.pid)},
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def is_gone(group: int) -> bool:
    """Whether there is no process of a group any more, within a while."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_ready(tmp_path: Path, server: subprocess.Popen[bytes]) -> None:
    waits = start(tmp_path, server, "true")
    assert waits.communicate(timeout=20) == (None, "")
    assert waits.returncode == 0
    assert is_gone(waits.pid)
    assert server.poll() is None


def test_never_ready(tmp_path: Path, server: subprocess.Popen[bytes]) -> None:
    waits = start(tmp_path, server, "false")
    waits.communicate(timeout=20)
    assert waits.returncode == 1


def test_a_server_that_ends_before_is_not_waited_for(
    tmp_path: Path, server: subprocess.Popen[bytes]
) -> None:
    waits = start(tmp_path, server, "sleep 100")
    while not (tmp_path / "pid").exists():
        time.sleep(0.01)
    assert waits.poll() is None
    server.kill()
    server.wait()  # as systemd reaps its children
    _, error = waits.communicate(timeout=20)
    assert waits.returncode == 1
    assert "ended before it was ready" in error
    assert is_gone(waits.pid)
