"""xk8s from wheels, in an environment outside of the repository, boots VMs."""

from __future__ import annotations

import pytest
from xk8s.testing import Xk8s

from tests.installed import Installed

pytestmark = pytest.mark.cluster


def test_up_debian_works_from_wheels(installed: Installed, xk8s: Xk8s) -> None:
    theirs = Xk8s(root=xk8s.root, directory=installed.directory, python=installed.python)
    theirs("--name", "wheels", "up", "debian", "--nodes", "1", "--routers", "0", timeout=900)
    try:
        said = theirs("--name", "wheels", "exec", "vm-001", "--", "hostname")
        assert said == "vm-001\n"
    finally:
        theirs("--name", "wheels", "down")
