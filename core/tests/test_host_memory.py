"""A VM that this machine can never run is refused before anything is built for it."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from xk8s.cluster.prepare import Clock, make_inputs
from xk8s.errors import HostError
from xk8s.progress import Silent
from xk8s.testing.plans import plan_of
from xk8s.util.host_memory import memory_of_host


def test_more_memory_than_the_machine_has_is_refused_before_the_build() -> None:
    total = memory_of_host("MemTotal") >> 20
    plan = plan_of("debian", f"cluster.memory=vm-002={total + 1}")
    with ExitStack() as held, pytest.raises(HostError) as caught:
        make_inputs(plan, Clock(Silent()), held)
    for part in ("vm-002", str(total + 1), str(total)):
        assert part in str(caught.value)
    assert "cluster.memory" in caught.value.where
    assert caught.value.hint
