"""Clusters that several files or runs use. Who comes first boots one, all others restore what that
saved (`up` does so by itself): 3 seconds in place of minutes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
from attrs import evolve, frozen

from tests.cluster.kept import KEPT
from tests.conftest import Xk8s

UP_SECONDS = 3000.0
"""For `up` with programs to be compiled first, on a slow machine."""

_FAILED: set[str] = set()
"""Clusters that did not start in this run: to try again for each file may take hours."""


@frozen(kw_only=True)
class Shared:
    """A cluster by its name and what `up` is called with. ``kept``: also for the next run."""

    name: str
    up: tuple[str, ...]
    kept: bool = True

    @contextmanager
    def running(
        self, xk8s: Xk8s, *more: str, env: Mapping[str, str] | None = None
    ) -> Iterator[Xk8s]:
        """The command for it, while it runs. ``more`` options and ``env`` of `up` are the same in
        every file.
        """
        if self.name in _FAILED:
            pytest.fail(f"the cluster {self.name!r} did not start for an earlier file, see there")
        assert xk8s.root is not None, "tests have a state of their own"
        state = xk8s.root / "s"
        command = evolve(xk8s, common=("--name", self.name))
        try:
            try:
                if self.kept:
                    KEPT.bring(self.name, state)
                command("up", *self.up, *more, env=env, timeout=UP_SECONDS)
                if self.kept:
                    KEPT.keep(self.name, state)
            except Exception:
                _FAILED.add(self.name)
                raise
            yield command
        finally:
            command("down")
            assert xk8s.left() == []


README = Shared(name="xk8s", up=("kubernetes", "coredns", "externalip"), kept=False)
"""Two nodes and a router, under the default name; booted in every run."""
