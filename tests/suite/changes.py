"""Which test files a change touches: paths that differ from what landed last, mapped to tests.

A guess that decides on the order alone; every test is run in the end.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from xk8s.errors import Xk8sError
from xk8s.testing import plan_of

from tests.suite.sources import ROOT, source_of

_NAMES = re.compile(r"\bxk8s_(\w+)|\"([a-z][a-z0-9-]*)\"")


def changed_paths(root: Path = ROOT) -> frozenset[str]:
    """Paths below ``root`` that differ from what landed last, uncommitted ones included; none where
    git does not know.
    """
    base = _base(root)
    if not base:
        return frozenset()
    changed = _git(root, "diff", "--name-only", base)
    new = _git(root, "ls-files", "--others", "--exclude-standard")
    return frozenset([*changed.splitlines(), *new.splitlines()])


def _base(root: Path) -> str:
    """What landed last: XK8S_TEST_BASE, where the branch left main, or (on main) the commit before
    this one; for a merge that is what it was merged into.
    """
    if given := os.environ.get("XK8S_TEST_BASE"):
        return given
    head = _git(root, "rev-parse", "HEAD")
    for branch in ("origin/main", "main"):
        common = _git(root, "merge-base", "HEAD", branch)
        if common and common != head:
            return common
    return _git(root, "rev-parse", "--verify", "HEAD^")


def _git(root: Path, *words: str) -> str:
    """What git prints, "" when it fails (no repository, no such commit) or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def is_touched(test: Path, changed: Iterable[str], root: Path = ROOT) -> bool:
    """Whether one of the changed paths is the test file, or something that it tests."""
    if not test.is_relative_to(root):
        return False
    name = test.relative_to(root)
    text = source_of(test)
    return any(_concerns(Path(path), name, text) for path in changed)


def _concerns(changed: Path, test: Path, text: str) -> bool:
    if changed == test:
        return True
    on_vms = test.is_relative_to("tests/cluster")
    match changed.parts:
        case ("core", "src", *_):
            return on_vms or test.is_relative_to("core/tests")
        case ("plugins", plugin, *rest) if rest[:1] != ["tests"]:
            own = test.is_relative_to(Path("plugins", plugin))
            return own or (on_vms and plugin in _overlays(text))
        case ("docs", *_) | ("README.md",):
            return test.parent == Path("tests") or test.name == "test_pages.py"
        case ("run" | "pyproject.toml" | "requirements.lock" | "conftest.py" | "tools" | ".ci", *_):
            return test.parent == Path("tests")
    return _is_helper(changed, test, text)


def _is_helper(changed: Path, test: Path, text: str) -> bool:
    """Whether it lies beside the test, or above, and the test names it (or pytest loads it)."""
    if changed.name == "conftest.py":
        return test.is_relative_to(changed.parent)
    for parent in test.parents[:-1]:
        if changed.is_relative_to(parent):
            beside = Path(changed.relative_to(parent).parts[0]).stem
            return not beside.startswith("test_") and beside in text
    return False


def _overlays(text: str) -> frozenset[str]:
    """The overlays that a test names, and those that come along with them."""
    names = {module.replace("_", "-") or word for module, word in _NAMES.findall(text)}
    return frozenset().union(*(_selected(name) for name in names))


@functools.cache
def _selected(name: str) -> frozenset[str]:
    """The overlays of a cluster of that one; none when it is none, or cannot be planned now."""
    if not (ROOT / "plugins" / name).is_dir():
        return frozenset()
    try:
        return frozenset({name, *plan_of(name).ctx.overlays})
    except Xk8sError:
        return frozenset({name})
