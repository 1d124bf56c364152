"""Somebody else's overlay: made by the template, in a directory outside of this repository and an
environment that has wheels alone, with its own idea of kubelet and of the pods' network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen
from xk8s.testing import Xk8s

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]
EDITS = Path(__file__).parent / "third_party"
"""The files of the made overlay that its maker changes."""

WANTED = ("xk8s[testing]", "xk8s-debian", "xk8s-kubernetes", "xk8s-containerd")
"""What the maker installs; what these need of ours comes along."""


@frozen(kw_only=True)
class Outside:
    """A directory outside of the repository, and the Python of an environment in it."""

    directory: Path

    @property
    def python(self) -> Path:
        """Of the environment."""
        return self.directory / "venv/bin/python"

    def run(self, *words: str | Path, cwd: str = ".") -> str:
        """Run it and expect success; stdout and stderr."""
        mine = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("XK8S_", "VIRTUAL_ENV", "PYTHON"))
        }
        done = subprocess.run(
            [str(word) for word in words], cwd=self.directory / cwd, env=mine,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}: exit {done.returncode}\n{done.stdout[-6000:]}"
        return done.stdout


def wheels(directory: Path) -> list[Path]:
    """Wheels of the core and all plugins, built with what is locked: nothing is fetched."""
    for project in (ROOT / "core", *sorted(ROOT.glob("plugins/*"))):
        if (project / "pyproject.toml").exists():
            command = [sys.executable, "-m", "uv", "build", "--wheel", "--no-build-isolation"]
            subprocess.run([*command, "-q", "-o", directory, project], check=True)
    return sorted(directory.glob("*.whl"))


@pytest.fixture(scope="module")
def outside() -> Iterator[Outside]:
    with tempfile.TemporaryDirectory(prefix="xk8s-out-", dir="/tmp") as name:
        made = Outside(directory=Path(name).resolve())
        assert wheels(made.directory / "wheels")
        made.run(getattr(sys, "_base_executable", sys.executable), "-m", "venv", "venv")
        # Ours from the wheels; an index, whichever this machine has, only gives what they require.
        ours = {path.name.split("-")[0].replace("_", "-"): path
                for path in (made.directory / "wheels").glob("*.whl")}  # fmt: skip
        overrides = made.directory / "ours.txt"
        overrides.write_text("".join(f"{name} @ {path.as_uri()}\n" for name, path in ours.items()))
        made.run(
            sys.executable, "-m", "uv", "pip", "install", "--python", made.python,
            "--overrides", overrides, "--constraints", ROOT / "requirements.lock", *WANTED,
        )  # fmt: skip
        yield made


@pytest.fixture(scope="module")
def overlay(outside: Outside) -> Path:
    """Made, tried as it is, then edited as its maker would; installed as its README says."""
    outside.run(outside.python, "-m", "xk8s.cli", "new", "my-overlay")
    outside.run(outside.python, "-m", "pip", "install", "-e", ".[test]", cwd="my-overlay")
    said = outside.run(outside.python, "-m", "pytest", cwd="my-overlay")
    assert "3 passed, 2 deselected" in said
    directory = outside.directory / "my-overlay"
    package = directory / "src/xk8s_my_overlay"
    for name in ("overlay.py", "settings.py", "checks.py"):
        shutil.copy(EDITS / name, package / name)
    shutil.copy(EDITS / "its_tests.py", directory / "tests/test_overlay.py")
    (directory / "tests/test_cluster.py").unlink()
    return directory


def test_only_wheels_are_there(outside: Outside) -> None:
    code = "import xk8s, xk8s_kubernetes; print(xk8s.__file__, xk8s_kubernetes.__file__)"
    for path in outside.run(outside.python, "-c", code).split():
        assert Path(path).is_relative_to(outside.directory / "venv"), path


def test_its_own_tests_pass_without_a_vm(outside: Outside, overlay: Path) -> None:
    assert "3 passed" in outside.run(outside.python, "-m", "pytest", cwd="my-overlay")


def test_it_joins_a_real_cluster(outside: Outside, overlay: Path, xk8s: Xk8s) -> None:
    start = time.monotonic()
    theirs = Xk8s(root=xk8s.root, directory=outside.directory, python=outside.python)
    words = ("--nodes", "1", "--routers", "0", "-s", "my-overlay.pods=17")
    theirs("up", "kubernetes", "my-overlay", *words, timeout=1800)
    took = time.monotonic() - start
    try:
        checks = {one["name"]: one for one in theirs.json("check", "--json")}
        assert checks["my-overlay kubelet"]["detail"] == "1 nodes take 17 pods each"
        assert checks["my-overlay network"]["detail"] == "pods are on my0"
        assert all(one["ok"] for one in checks.values())
        links = theirs("exec", "vm-001", "--", "ip", "-br", "link")
        assert "cni0" not in links, "the network that it replaces was used as well"
        config = theirs("exec", "vm-001", "--", "kubectl", "get", "--raw",
                        "/api/v1/nodes/vm-001/proxy/configz")  # fmt: skip
        assert '"maxPods":17' in config
        assert theirs("exec", "vm-001", "--", "cat", "/etc/my-overlay.conf") == "text = 17 pods\n"
    finally:
        theirs("down")
    print(f"{lines(overlay)} lines in all, {edited()} of them edited; up took {took:.0f} s")


def lines(directory: Path) -> int:
    """Of the overlay: sources, tests, project and templates."""
    kinds = {".py", ".toml", ".md", ".j2", ".yaml"}
    return sum(len(path.read_text().splitlines())
               for path in directory.rglob("*") if path.suffix in kinds)  # fmt: skip


def edited() -> int:
    """Lines of the files that the maker changed."""
    return sum(len(path.read_text().splitlines()) for path in EDITS.glob("*.py"))
