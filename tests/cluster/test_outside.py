"""What a real VM reaches outside of the cluster, in a world of namespaces of our own."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests import small_world
from tests.conftest import Xk8s
from tests.suite.sources import ROOT

pytestmark = pytest.mark.cluster

SMALL = ("debian", "--nodes", "1", "--routers", "0", "--memory", "control-plane=384")
NAMED = "93.184.216.34"


def test_root_in_a_guest_reaches_what_the_setting_says_and_nothing_more(xk8s: Xk8s) -> None:
    if (why := small_world.lacks()) is not None:
        pytest.skip(why)
    # Builds and the first boot need this machine's own network.
    xk8s("--name", "out", "up", *SMALL, timeout=1800)
    xk8s("--name", "out", "down")
    done = subprocess.run(
        small_world.argv("-m", "tests.outside_cluster_script", *SMALL),
        cwd=ROOT, env=xk8s.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {step: set(reached) for step, reached in json.loads(done.stdout).items()}
    internet = {small_world.INTERNET, NAMED}
    for step in ("internet", "apply internet", "saved"):
        assert found[step] == internet, step
    # Its own addresses hide the resolver from it, and nothing else changes.
    assert found["rules of the guest"] == {small_world.INTERNET}
    assert found["apply none"] == found["restored with none"] == set()
    assert found["apply all"] == {*small_world.ALL, NAMED}
    # A save replaces QEMU, not what leads to its guest.
    assert json.loads(done.stdout)["connections"] == ["before", "after.", "True"]
    assert found["proxy"] == {small_world.LOOPBACK}
    assert f"http_proxy=http://192.168.255.2:{small_world.PORT}" in found["told"]
