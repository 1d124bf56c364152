"""What a comparison is made of. A new series is an `About` and a function, in the module of its
comparison; a new comparison is a module with a `Comparison`, named in `xk8s_bench.catalog`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from attrs import field, frozen
from xk8s.planning.plan import Plan

from xk8s_bench.result import About

if TYPE_CHECKING:
    from xk8s_bench.lab import Lab


@frozen(kw_only=True)
class Quantity:
    """What is measured in each run, in ``unit`` ("s", "MiB")."""

    name: str
    title: str
    unit: str


@frozen(kw_only=True)
class Way:
    """A series that can be run: ``run`` gives a value > 0 for the name of every quantity, and
    leaves nothing running. ``goals`` are, by quantity, the greatest ratios to the first series
    that are wanted.
    """

    about: About
    run: Callable[[], Mapping[str, float]]
    goals: Mapping[str, float] = field(factory=dict)


@frozen(kw_only=True)
class Prepared:
    """A comparison of certain overlays, with everything it needs already cached."""

    quantities: tuple[Quantity, ...]
    ways: tuple[Way, ...]
    plans: tuple[Plan, ...]


@frozen(kw_only=True)
class Comparison:
    """``series`` and ``quantities`` are those that it can have, for a listing; which of them it
    has for certain overlays, ``prepare`` says. That fetches and builds what is missing, so that
    no run has to.
    """

    name: str
    summary: str
    series: tuple[About, ...]
    quantities: tuple[Quantity, ...]
    prepare: Callable[[Lab], Prepared]
