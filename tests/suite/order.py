"""The order of the tests: what says most in the least time comes first.

1. Smoke tests.
2. Tests without VMs: all of them take minutes, so they never wait for VMs. What the change touches
   comes first.
3. Tests with VMs that the last run had no time for, then what the change touches, then the rest.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.suite.changes import changed_paths, is_touched
from tests.suite.not_run import KEY

LAST = (
    "test_kubernetes", "test_scale_kubernetes", "test_apply_kubernetes", "test_ca_rotate",
    "test_control_plane", "test_families", "test_multinet", "test_flannel", "test_kube_router",
    "test_third_party", "test_crio", "test_pages",
)  # fmt: skip
"""Files that boot whole Kubernetes clusters, in the order in which they are missed. Those that
share a cluster (tests/cluster/shared.py) follow each other.
"""


def pytest_configure(config: pytest.Config) -> None:
    """The marker."""
    config.addinivalue_line("markers", "smoke: is run before all others, in every run")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files stay whole: fixtures of a module boot a cluster for all of its tests."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    late = {name.partition("::")[0] for name in config.stash[KEY].before}
    changed = changed_paths()
    ranks = {path: _rank(path, own, late, changed) for path, own in files.items()}
    items.sort(key=lambda item: ranks[item.path])


def _rank(
    path: Path, items: list[pytest.Item], late: set[str], changed: frozenset[str]
) -> tuple[int, int, int]:
    on_vms = any(item.get_closest_marker("cluster") for item in items)
    if any(item.get_closest_marker("smoke") for item in items):
        return 0, on_vms, 0
    untouched = not is_touched(path, changed)
    if not on_vms:
        return 1, untouched, 0
    cost = LAST.index(path.stem) + 1 if path.stem in LAST else 0
    if any(item.nodeid.partition("::")[0] in late for item in items):
        return 2, 0, cost
    return 3, untouched, cost
