"""Tests that a run had no time for: named in its last lines, and in a file below the cache with
which the next run begins (after smoke tests and those without VMs, which take minutes).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator, Iterable
from pathlib import Path

import pytest
from attrs import define, field
from xk8s.util.paths import cache_dir


@define
class NotRun:
    """Tests (their node ids) that earlier runs and this one had no time for."""

    file: Path
    before: frozenset[str]
    now: list[str] = field(factory=list)
    ran: set[str] = field(factory=set)

    def write(self) -> None:
        """Keep what is still to be run for the next time."""
        left = [*self.now, *sorted(self.before - self.ran - {*self.now})]
        if not left:
            self.file.unlink(missing_ok=True)
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(left, indent=1) + "\n")


KEY = pytest.StashKey[NotRun]()


def not_run_file() -> Path:
    """In the user's cache: clones share it."""
    return cache_dir() / "tests" / "not-run.json"


def read(file: Path) -> frozenset[str]:
    """The tests in it; none when it is not there or not ours."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return frozenset()
    return frozenset(name for name in found if isinstance(name, str))


def pytest_configure(config: pytest.Config) -> None:
    """Read it before a test can change where the cache is."""
    file = not_run_file().absolute()
    config.stash[KEY] = NotRun(file=file, before=read(file))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """It had its turn, unless the time limit said otherwise."""
    noted = item.config.stash[KEY]
    if item.nodeid not in noted.now:
        noted.ran.add(item.nodeid)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    """After all other reports: what nobody reads is above them."""
    yield
    noted = session.config.stash[KEY]
    noted.write()
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if noted.now and reporter:
        reporter.write_line("")
        reporter.write_line(f"NOT RUN, no time was left for {len(noted.now)} tests:", yellow=True)
        for line in _lines(noted.now):
            reporter.write_line(f"  {line}", yellow=True)
        reporter.write_line(f"The next run begins its VMs with them: {noted.file}", yellow=True)


def _lines(names: Iterable[str]) -> list[str]:
    """A line per file: how many, and which."""
    names = list(names)
    counts = Counter(name.partition("::")[0] for name in names)
    return [
        f"{file}: {count} ({', '.join(n.partition('::')[2] for n in names if n.startswith(file))})"
        for file, count in counts.items()
    ]
