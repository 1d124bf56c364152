"""Everything a plan's VMs need, built before the first one starts."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from xk8s.build.artifacts.store import Resolved
from xk8s.build.layers.build import BuiltLayer
from xk8s.machine.qemu.accelerator import Accel
from xk8s.planning.plan import Plan


@frozen(kw_only=True)
class ClusterInputs:
    """``resolved`` has artifacts by key, ``layers`` images by the name of their layer."""

    plan: Plan
    accel: Accel
    resolved: Mapping[str, Resolved]
    layers: Mapping[str, BuiltLayer]
