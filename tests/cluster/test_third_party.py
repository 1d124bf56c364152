"""Somebody else's overlay: made by the template, in a directory outside of this repository and an
environment that has wheels alone, with its own idea of kubelet and of the pods' network.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from xk8s.testing import Xk8s

from tests.cluster.kubectl import kubectl_of
from tests.cluster.shared import Shared
from tests.installed import Installed

pytestmark = pytest.mark.cluster

CLUSTER = Shared(
    name="third-party",
    up=("kubernetes", "my-overlay", "--nodes", "1", "--routers", "0", "-s", "my-overlay.pods=17"),
)
EDITS = Path(__file__).parent / "third_party"
"""The files of the made overlay that its maker changes."""


@pytest.fixture(scope="module")
def overlay(installed: Installed) -> Path:
    """Made, then edited as its maker would; installed as its README says."""
    installed.run("xk8s", "new", "my-overlay")
    installed.run("pip", "install", "--find-links", "../wheels", "-e", ".[test]", cwd="my-overlay")
    directory = installed.directory / "my-overlay"
    package = directory / "src/xk8s_my_overlay"
    for name in ("overlay.py", "settings.py", "checks.py"):
        shutil.copy(EDITS / name, package / name)
    shutil.copy(EDITS / "its_tests.py", directory / "tests/test_overlay.py")
    (directory / "tests/test_cluster.py").unlink()
    return directory


def test_its_own_tests_pass_without_a_vm(installed: Installed, overlay: Path) -> None:
    assert "3 passed" in installed.run("pytest", cwd="my-overlay")


def test_it_joins_a_real_cluster(installed: Installed, overlay: Path, xk8s: Xk8s) -> None:
    start = time.monotonic()
    theirs = Xk8s(root=xk8s.root, directory=installed.directory, python=installed.python)
    with CLUSTER.running(theirs) as command:
        took = time.monotonic() - start
        checks = {result["name"]: result for result in command.json("check", "--json")}
        assert checks["my-overlay kubelet"]["detail"] == "1 nodes take 17 pods each"
        assert checks["my-overlay network"]["detail"] == "pods are on my0"
        assert all(result["ok"] for result in checks.values())
        links = command("exec", "vm-001", "--", "ip", "-br", "link")
        assert "cni0" not in links, "the network that it replaces was used as well"
        config = kubectl_of(command, CLUSTER.name)(
            "get", "--raw", "/api/v1/nodes/vm-001/proxy/configz"
        )
        assert '"maxPods":17' in config
        assert command("exec", "vm-001", "--", "cat", "/etc/my-overlay.conf") == "text = 17 pods\n"
    print(f"{lines(overlay)} lines in all, {edited()} of them edited; up took {took:.0f} s")


def lines(directory: Path) -> int:
    """Of the overlay: sources, tests, project and templates."""
    kinds = {".py", ".toml", ".md", ".j2", ".yaml"}
    return sum(len(path.read_text().splitlines())
               for path in directory.rglob("*") if path.suffix in kinds)  # fmt: skip


def edited() -> int:
    """Lines of the files that the maker changed."""
    return sum(len(path.read_text().splitlines()) for path in EDITS.glob("*.py"))
