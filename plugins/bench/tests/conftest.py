"""Plans of an invented overlay, for comparisons that run nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from xk8s.overlay import Overlay
from xk8s.planning.plan import Plan
from xk8s.testing import plans, plugin


@pytest.fixture
def plan_of() -> Callable[..., Plan]:
    """Makes the plan of one node (vm-001), of a base that has nothing and one empty overlay."""

    def make() -> Plan:
        about = Overlay(summary="one", requires=(plans.BASE,))
        plugins = {plans.BASE: plans.base(), "t-one": plugin(overlay=lambda: about)}
        sets = ("cluster.nodes=1", "cluster.routers=0")
        return plans.plan_of((plans.BASE, "t-one"), *sets, plugins=plugins)

    return make
