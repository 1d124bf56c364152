"""The seconds of stages, as `up` and `apply` add them up for the user."""

from __future__ import annotations

import pytest
from xk8s.cluster.prepare import Clock
from xk8s.progress import Silent


def test_stages_inside_others_are_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """`up` once said 372 s after 313: the template was counted within "machines", too."""
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    clock = Clock(Silent())
    with clock.stage("machines"):
        now += 1.0
        with clock.stage("template"):
            now += 60.0
        now += 4.0
    with clock.stage("boot"):
        now += 90.0
    assert clock.seconds == {"template": 60.0, "machines": 5.0, "boot": 90.0}
