"""Limits of time: ``--minutes N`` (XK8S_TEST_MINUTES) for the whole run, and one for each test.

Machines differ by a factor of three and more. One that is too slow for all tests with VMs leaves
out those that it has not begun after N minutes, and ends the one that still runs GRACE minutes
later. A test that hangs fails with the stacks of its threads; that limit is a generous one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator

import pytest

from tests.suite.not_run import KEY

GRACE = 18
"""Minutes that a test may take which began just in time."""

SECONDS = 600
"""For a test without VMs: mypy is the slowest, with 90 seconds on two busy cores."""

VM_SECONDS = 2400
"""With VMs, its share of a boot included. None takes more than 600 seconds on two busy cores."""

_BEGAN = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option."""
    parser.addoption(
        "--minutes",
        type=float,
        default=os.environ.get("XK8S_TEST_MINUTES"),
        metavar="N",
        help=f"skip tests with VMs that have not begun N minutes after the start, and end what "
        f"still runs {GRACE} minutes later; both are named at the end",
    )


def pytest_configure(config: pytest.Config) -> None:
    """The time starts."""
    config.stash[_BEGAN] = time.monotonic()


def _on_vms(item: pytest.Item) -> bool:
    return item.get_closest_marker("cluster") is not None


def _left(item: pytest.Item) -> float | None:
    """Seconds until no further test with VMs begins; None without such a limit."""
    minutes = item.config.getoption("--minutes")
    if minutes is None or not _on_vms(item):
        return None
    return float(minutes) * 60 - (time.monotonic() - item.config.stash[_BEGAN])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """The limit of this test, before pytest-timeout (a wrapper as well) looks for it."""
    own = item.get_closest_marker("timeout")
    seconds = float(own.args[0]) if own else VM_SECONDS if _on_vms(item) else SECONDS
    left = _left(item)
    if left is not None:
        seconds = min(seconds, max(left, 0) + GRACE * 60)
    # A test of the timer that limits plugins needs SIGALRM for itself: it says method="thread".
    method = own.kwargs.get("method") if own else None
    item.add_marker(pytest.mark.timeout(seconds, method=method), append=False)
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before its fixtures: one of them may boot a cluster."""
    left = _left(item)
    if left is not None and left < 0 and not item.get_closest_marker("smoke"):
        item.config.stash[KEY].now.append(item.nodeid)
        minutes = item.config.getoption("--minutes")
        pytest.skip(f"no time left: the {minutes:g} minutes of --minutes are over")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that was ended as the run's time was over has not failed: it was not run."""
    report = yield
    left = _left(item)
    if report.failed and left is not None and left < -GRACE * 60 and _is_timeout(call):
        item.config.stash[KEY].now.append(item.nodeid)
        report.outcome = "skipped"
        path, line, _ = report.location
        report.longrepr = (path, line or 0, "Skipped: no time left: ended in the middle")
    return report


def _is_timeout(call: pytest.CallInfo[None]) -> bool:
    return call.excinfo is not None and "from pytest-timeout" in str(call.excinfo.value)
