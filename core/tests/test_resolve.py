"""Resolution: order by requirement alone, capabilities, and errors that name overlays."""

from __future__ import annotations

import types

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xk8s import hookimpl
from xk8s.errors import PlanError, UsageError
from xk8s.names.registry import Registry
from xk8s.overlay import Overlay
from xk8s.planning.resolve import Resolution, resolve


def plugin(overlay: Overlay) -> object:
    module = types.SimpleNamespace()

    def xk8s_overlay() -> Overlay:
        return overlay

    module.xk8s_overlay = hookimpl(xk8s_overlay)
    return module


def solve(overlays: dict[str, Overlay], *names: str, **unavailable: str) -> Resolution:
    registry = Registry({name: plugin(overlay) for name, overlay in overlays.items()})
    return resolve(names, registry, unavailable.get)


KUBE = {
    "os": Overlay(summary="", provides=("t-base",)),
    "kube": Overlay(summary="", requires=("t-base", "t-cri"), defaults={"t-cri": ("rt-a", "rt-b")}),
    "rt-a": Overlay(summary="", provides=("t-cri",)),
    "rt-b": Overlay(summary="", provides=("t-cri",)),
    "dns": Overlay(summary="", requires=("kube",)),
}


def test_requirements_are_added_and_come_first() -> None:
    found = solve(KUBE, "dns")
    assert found.overlays == ("os", "rt-a", "kube", "dns")
    assert found.asked_by["kube"] == ("dns",)
    assert found.asked_by["dns"] == ("command line",)


def test_default_falls_through_and_keeps_the_reason() -> None:
    found = solve(KUBE, "dns", **{"rt-a": "no directory is given"})
    (choice,) = [choice for choice in found.choices if choice.capability == "t-cri"]
    assert choice.chosen == "rt-b"
    assert choice.reason == "rt-a: no directory is given"


def test_named_provider_is_no_choice() -> None:
    found = solve(KUBE, "kube", "rt-b")
    assert "rt-a" not in found.overlays
    assert [choice.capability for choice in found.choices] == ["t-base"]


def test_two_providers_are_an_error_that_names_both() -> None:
    with pytest.raises(PlanError, match="'rt-a' and 'rt-b' both provide 't-cri'"):
        solve(KUBE, "kube", "rt-a", "rt-b")


def test_no_default_available_lists_all_reasons() -> None:
    with pytest.raises(PlanError) as caught:
        solve(KUBE, "kube", **{"rt-a": "too old", "rt-b": "not here"})
    assert caught.value.where == "rt-a: too old; rt-b: not here"


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="no overlay 'kubee'") as caught:
        solve(KUBE, "kubee")
    assert "'kube'" in caught.value.hint


def test_missing_capability_names_who_needs_it() -> None:
    with pytest.raises(PlanError, match="'a' needs 'moon'"):
        solve({"a": Overlay(summary="", requires=("moon",))}, "a")


def test_conflict_and_circle() -> None:
    with pytest.raises(PlanError, match="'a' and 'b' conflict"):
        solve({"a": Overlay(summary="", conflicts=("b",)), "b": Overlay(summary="")}, "a", "b")
    ring = {
        "a": Overlay(summary="", requires=("b",)),
        "b": Overlay(summary="", requires=("a",)),
    }
    with pytest.raises(PlanError, match="cycle"):
        solve(ring, "a")


@given(st.permutations(["dns", "kube", "os", "rt-b"]))
def test_order_on_the_command_line_does_not_matter(names: list[str]) -> None:
    assert solve(KUBE, *names).overlays == ("os", "rt-b", "kube", "dns")


@given(st.dictionaries(st.integers(0, 9), st.sets(st.integers(0, 9)), min_size=1))
def test_everything_required_comes_before(edges: dict[int, set[int]]) -> None:
    # Only edges to smaller numbers: no circles.
    overlays = {
        f"o{n}": Overlay(
            summary="", requires=tuple(f"o{m}" for m in sorted(edges.get(n, ())) if m < n)
        )
        for n in range(10)
    }
    order = solve(overlays, *(f"o{n}" for n in edges)).overlays
    for name in order:
        for need in overlays[name].requires:
            assert order.index(need) < order.index(name)


NETWORKED = {
    **KUBE,
    "kube": Overlay(
        summary="",
        requires=("t-base",),
        completed_by=("t-net",),
        defaults={"t-net": ("net-a",)},
    ),
    "net-a": Overlay(summary="", provides=("t-net",), requires=("kube",)),
    "net-b": Overlay(summary="", provides=("t-net",), requires=("kube",)),
    "dns": Overlay(summary="", requires=("kube",), after=("t-net",)),
}


def test_what_completes_an_overlay_is_required_and_lies_on_top_of_it() -> None:
    found = solve(NETWORKED, "dns")
    assert found.overlays == ("os", "kube", "net-a", "dns")
    assert found.asked_by["net-a"] == ("kube",)
    # Named alone, it brings what it completes.
    assert solve(NETWORKED, "net-b").overlays == ("os", "kube", "net-b")
    without = {name: overlay for name, overlay in NETWORKED.items() if not name.startswith("net-")}
    with pytest.raises(PlanError, match="'t-net'"):
        solve(without, "kube")
