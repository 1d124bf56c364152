"""What tests of the whole use: the command in a subprocess, with state of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from xk8s.testing import Xk8s

from tests.installed import Installed, install

__all__ = ["Xk8s"]


@pytest.fixture(scope="session")
def installed() -> Iterator[Installed]:
    """xk8s from wheels, in an environment outside of the repository; one for the whole run."""
    # Not in pytest's directory: a user's path is short, and sockets have to fit into it.
    with tempfile.TemporaryDirectory(prefix="xk8s-out-", dir="/tmp") as name:
        yield install(Path(name).resolve())
