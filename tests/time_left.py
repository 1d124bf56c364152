"""A limit for the whole run: ``--minutes N``, or XK8S_TEST_MINUTES as in .ci/run. Machines differ
by a factor of three and more; one that is too slow for all still has to say what it found.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

LAST = (
    "test_kubernetes", "test_families", "test_apply_kubernetes", "test_flannel", "test_ca_rotate",
    "test_kube_router", "test_multinet", "test_third_party", "test_crio", "test_pages",
)  # fmt: skip
"""Files that boot whole Kubernetes clusters, in the order in which they are missed."""

_BEGAN = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option."""
    parser.addoption(
        "--minutes",
        type=float,
        default=os.environ.get("XK8S_TEST_MINUTES"),
        metavar="N",
        help="skip tests with VMs that have not begun N minutes after the start, and say so",
    )


def pytest_configure(config: pytest.Config) -> None:
    """The time starts."""
    config.stash[_BEGAN] = time.monotonic()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests without VMs, then those with small ones, then those with Kubernetes in them."""
    items.sort(key=lambda item: _rank(item.path, item.get_closest_marker("cluster") is not None))


def _rank(path: Path, cluster: bool) -> int:
    if not cluster:
        return 0
    return 2 + LAST.index(path.stem) if path.stem in LAST else 1


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before its fixtures: one of them may boot a cluster."""
    minutes = item.config.getoption("--minutes")
    if minutes is None or item.get_closest_marker("cluster") is None:
        return
    if time.monotonic() - item.config.stash[_BEGAN] > minutes * 60:
        pytest.skip(f"no time left: the {minutes:g} minutes of --minutes are over")
