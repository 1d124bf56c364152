"""The test kit's fixture ``cluster``, on the smallest cluster that there is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from xk8s.testing import Xk8s

pytestmark = pytest.mark.cluster

THEIRS = """
import pytest

pytestmark = pytest.mark.cluster("debian", sets=("cluster.memory=control-plane=384",))

def test_it(cluster):
    assert (cluster.name, cluster.overlays) == ("test-debian", ("debian",))
    assert cluster.run("vm-001", "hostname") == "vm-001\\n"
    with pytest.raises(AssertionError, match="exit 1"):
        cluster.run("vm-001", "false")
    assert [node["name"] for node in cluster.xk8s.json("status", "--json")["nodes"]] == ["vm-001"]

def test_how_it_came_up(cluster):
    stages = cluster.xk8s.json("status", "--json")["seconds"]
    assert False, f"restored: {'restore' in stages}"
"""


def test_it_is_booted_then_restored_and_always_ended(xk8s: Xk8s, tmp_path: Path) -> None:
    """Twice in a pytest of its own, whose end is looked at: one test passes, the other fails and
    says what it saw.
    """
    (tmp_path / "test_theirs.py").write_text(THEIRS)
    # Not a setting of theirs: state is that of who runs the tests, settings are the module's.
    (tmp_path / "xk8s.toml").write_text("[cluster]\nnodes = 3\n")
    words = ["-m", "pytest", "-q", "-p", "xk8s.testing", "--rootdir", str(tmp_path), str(tmp_path)]
    for restored in (False, True):
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env={**os.environ, **xk8s.environment},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "1 failed, 1 passed" in done.stdout
        assert f"restored: {restored}" in done.stdout
        assert xk8s.left() == []
    xk8s("--name", "test-debian", "snapshot", "remove", snapshot(xk8s))


def snapshot(xk8s: Xk8s) -> str:
    """The only one of that cluster: the second run did not make another."""
    listed = xk8s.json("snapshot", "list", "--json")
    (snapshot,) = (snapshot for snapshot in listed if snapshot["cluster"] == "test-debian")
    return str(snapshot["label"])
