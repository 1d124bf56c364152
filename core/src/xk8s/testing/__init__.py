"""Tests of overlays: a pytest plugin that is loaded on request.

Switch it on in the pyproject of your overlay, and install ``xk8s[testing]``::

    [tool.pytest.ini_options]
    addopts = ["-p", "xk8s.testing"]

Nobody else's pytest is slowed down: pytest does not load it by itself.

Fixtures: ``plan`` makes plans without QEMU, root or network; ``cluster`` is a real cluster of one
node; ``xk8s`` is the command itself with state of its own; ``own_places`` keeps what a test does in
this process out of the user's directories. `assert_conforms` is a test in one line, `context_of`
makes what a hook is called with.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from xk8s.testing.command import Xk8s, own_command
from xk8s.testing.conform import Violation, assert_conforms, violations
from xk8s.testing.contexts import context_of
from xk8s.testing.live import LiveCluster, live_cluster
from xk8s.testing.plans import MakePlan, plan_of, plugin

__all__ = [
    "LiveCluster",
    "MakePlan",
    "Violation",
    "Xk8s",
    "assert_conforms",
    "context_of",
    "plan_of",
    "plugin",
    "violations",
]

MARKER = (
    "cluster(*overlays, nodes=1, routers=0, sets=()): boots a real cluster of VMs (minutes under "
    "TCG); the arguments say what the module's fixture `cluster` starts"
)


def pytest_configure(config: pytest.Config) -> None:
    """The marker of tests that take minutes: ``pytest -m 'not cluster'``."""
    config.addinivalue_line("markers", MARKER)


@pytest.fixture
def plan() -> MakePlan:
    """Makes plans: ``plan("my-overlay", "my-overlay.text=hello")``, see `plan_of`."""
    return plan_of


@pytest.fixture
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory with ``cache``, ``state`` and ``runtime`` of this test's own, in which it runs:
    nothing of the user's is read or written, no xk8s.toml counts.
    """
    for name in ("cache", "state", "runtime"):
        monkeypatch.setenv(f"XK8S_{name.upper()}", str(tmp_path / name))
    monkeypatch.delenv("XK8S_NAME", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def xk8s() -> Iterator[Xk8s]:
    """The command with state of its own; whatever its tests leave running is ended."""
    yield from own_command()


@pytest.fixture(scope="module")
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveCluster]:
    """A real cluster of what the module names.

    For example: ``pytestmark = pytest.mark.cluster("my-overlay", sets=("my-overlay.text=hi",))``

    One node and no router, unless it says otherwise. Restored from the snapshot that an earlier
    run left where the plan is still the same, booted otherwise; ended after the last test.
    """
    mark = request.node.get_closest_marker("cluster")
    if mark is None or not mark.args:
        raise pytest.UsageError(
            f"{request.node.nodeid}: the fixture `cluster` does not know what to start; say so in "
            'the module: pytestmark = pytest.mark.cluster("kubernetes", "my-overlay")'
        )
    yield from live_cluster(mark.args, mark.kwargs, tmp_path_factory.mktemp("cluster"))
