"""Checks run again when what they depend on changed since they passed, also where nothing of the
nodes did: settings that only a check reads, and the code of a check.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import frozen
from xk8s.checks import CheckContext
from xk8s.cluster.change.apply import checks_due
from xk8s.cluster.checks.run import check, check_again
from xk8s.cluster.handle import Cluster
from xk8s.cluster.snapshots import store
from xk8s.cluster.state.passed_checks import (
    CHECKED,
    copy_passed,
    forget_passed,
    remember_passed,
    unchecked,
)
from xk8s.cluster.state.record import Record
from xk8s.context import Context
from xk8s.errors import CheckFailed
from xk8s.names.allow_list import Policy
from xk8s.names.registry import Registry
from xk8s.overlay import Check, Fragment, Overlay, Point, setting
from xk8s.planning.make_plan import make_plan
from xk8s.planning.plan import Plan
from xk8s.progress import Silent
from xk8s.testing import plan_of, plugin
from xk8s.testing.plans import BASE, base, request_of
from xk8s.util.paths import make_private


@pytest.fixture(autouse=True)
def own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("XK8S_CACHE", "XK8S_STATE", "XK8S_RUNTIME"):
        monkeypatch.setenv(variable, str(tmp_path / "own"))


@frozen(kw_only=True)
class Throughput:
    least: int = setting(1, "what must be reached")


@frozen(kw_only=True)
class Other:
    word: str = setting("a", "what another overlay says")


SMALL = ("cluster.nodes=1", "cluster.routers=0")
POINT = "t-speed.more"
REACHED = 5


def measure(least: int) -> Callable[[CheckContext], str]:
    def run(_context: CheckContext) -> str:
        if least > REACHED:
            raise CheckFailed(f"{REACHED}, not {least}")
        return f"{REACHED}"

    return run


def planned(*sets: str, extra: tuple[str, ...] = ()) -> Plan:
    """t-speed has settings that only its check reads; t-both reads those of t-other, too."""

    def checks(ctx: Context) -> list[Check]:
        least = ctx.settings(Throughput).least
        sums = ctx.fragments(POINT, int)
        return [Check(name="speed", run=measure(least + sum(sums)), timeout=0)]

    def both(ctx: Context) -> list[Check]:
        word = ctx.settings(Other).word
        return [Check(name="both", run=lambda _: word)]

    requires = ("base",)
    point = Point(type=int, help="Adds to it.", example=1)
    plugins = {
        BASE: base(),
        "t-speed": plugin(
            overlay=lambda: Overlay(
                summary="s", requires=requires, settings=Throughput, points={POINT: point}
            ),
            checks=checks,
        ),
        "t-other": plugin(
            overlay=lambda: Overlay(summary="o", requires=requires, settings=Other),
        ),
        "t-both": plugin(
            overlay=lambda: Overlay(summary="b", requires=("t-other",)), checks=both
        ),
        "t-adds": plugin(
            overlay=lambda: Overlay(summary="a", requires=("t-speed",)),
            fragments=lambda ctx: [Fragment(point=POINT, value=1)],
        ),
    }  # fmt: skip
    return plan_of((BASE, "t-speed", "t-both", *extra), *SMALL, *sets, plugins=plugins)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return make_private(tmp_path / "state")


def test_before_any_check_passed_all_have_to_run(state: Path) -> None:
    assert unchecked(planned(), state) == {"t-speed", "t-both"}
    remember_passed(planned(), state)
    assert unchecked(planned(), state) == set()
    assert (state / CHECKED).stat().st_mode & 0o777 == 0o600
    forget_passed(state)
    assert unchecked(planned(), state) == {"t-speed", "t-both"}


def test_a_setting_that_only_a_check_reads_is_noticed(state: Path) -> None:
    plan, changed = planned(), planned("t-speed.least=3")
    assert plan.digest == changed.digest, "or a snapshot of the one would not fit the other"
    remember_passed(plan, state)
    assert unchecked(changed, state) == {"t-speed"}
    remember_passed(changed, state, {"t-speed"})
    assert unchecked(changed, state) == set()
    assert unchecked(plan, state) == {"t-speed"}


def test_settings_of_others_and_fragments_that_the_checks_read_are_noticed(state: Path) -> None:
    remember_passed(planned(), state)
    assert unchecked(planned("t-other.word=b"), state) == {"t-both"}
    assert unchecked(planned(extra=("t-adds",)), state) == {"t-speed"}


def test_only_overlays_whose_checks_ran_count_as_passed(state: Path) -> None:
    remember_passed(planned(), state, {"t-both"})
    assert unchecked(planned(), state) == {"t-speed"}


@pytest.mark.parametrize("text", ["", "[", "3", "[[" * 9999, '{"t-speed": 3}'])
def test_a_damaged_record_just_means_that_checks_run(state: Path, text: str) -> None:
    (state / CHECKED).write_text(text)
    assert unchecked(planned(), state) == {"t-speed", "t-both"}


@pytest.mark.parametrize(
    ("module", "path"), [("t_one.py", "t_one.py"), ("t_one/__init__.py", "t_one/inner/text.py")]
)
def test_an_edited_check_runs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: Path, module: str, path: str
) -> None:
    site = tmp_path / "site"
    source = (
        "from xk8s import hookimpl\nfrom xk8s.overlay import *\n"
        "@hookimpl\ndef xk8s_overlay(): return Overlay(summary='x', requires=('base',))\n"
        "@hookimpl\ndef xk8s_checks(ctx): return [Check(name='x', run=lambda context: 'ok')]\n"
    )
    for name, text in (
        (module, source),
        ("t_one-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: t_one\nVersion: 1\n"),
        ("t_one-1.dist-info/entry_points.txt", "[xk8s.v1]\nt-one = t_one\n"),
    ):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    monkeypatch.syspath_prepend(str(site))
    try:
        registry = Registry({BASE: base()}, Policy())
        plan = make_plan(request_of((BASE, "t-one"), SMALL, "test"), registry)
        remember_passed(plan, state)
        assert unchecked(plan, state) == set()
        (site / path).parent.mkdir(exist_ok=True)
        with (site / path).open("a") as file:
            file.write("# edited\n")
        assert unchecked(plan, state) == {"t-one"}
    finally:
        sys.modules.pop("t_one", None)


# --- apply ------------------------------------------------------------------------------


def test_apply_runs_the_checks_of_what_changed_or_is_named(state: Path) -> None:
    remember_passed(planned(), state)
    assert checks_due(planned(), state, (), "changed") == ()
    assert checks_due(planned("t-speed.least=3"), state, (), "changed") == ("t-speed",)
    assert checks_due(planned(), state, ("t-both",), "changed") == ("t-both",)
    both = checks_due(planned(), state, (), "all")
    assert sorted(both) == ["t-both", "t-speed"]
    assert checks_due(planned("t-speed.least=3"), state, ("t-both",), "none") == ()


def test_what_was_applied_without_checks_is_checked_by_the_next_apply(state: Path) -> None:
    remember_passed(planned(), state)
    changed = planned("t-speed.least=3")
    assert checks_due(changed, state, (), "none") == ()
    assert checks_due(changed, state, (), "changed") == ("t-speed",)


# --- restoring --------------------------------------------------------------------------


@pytest.fixture
def restored() -> Callable[[Plan], Cluster]:
    """A cluster without VMs, as it is behind a restore."""

    def make(plan: Plan) -> Cluster:
        record = Record(
            name=plan.name, phase="starting", overlays=plan.ctx.overlays,
            digest=plan.digest, accel="tcg",
        )  # fmt: skip
        cluster = Cluster(record, plan)
        make_private(cluster.state_dir)
        return cluster

    return make


def test_restored_with_another_setting_its_check_runs_and_may_fail(
    restored: Callable[[Plan], Cluster], state: Path
) -> None:
    remember_passed(planned(), state)
    plan = planned("t-speed.least=9")
    with pytest.raises(CheckFailed, match="check speed: 5, not 9"):
        check_again(restored(plan), unchecked(plan, state), Silent(), state)
    assert unchecked(plan, state) == {"t-speed"}, "it did not pass"
    assert unchecked(planned(), state) == set(), "the snapshot is as good as it was"


def test_what_passed_once_is_remembered_with_the_snapshot(
    restored: Callable[[Plan], Cluster], state: Path
) -> None:
    remember_passed(planned(), state)
    plan = planned("t-speed.least=3")
    cluster = restored(plan)
    copy_passed(state, cluster.state_dir)
    check_again(cluster, unchecked(plan, state), Silent(), state)
    assert unchecked(plan, state) == unchecked(plan, cluster.state_dir) == set()


def test_checks_of_a_restore_leave_out_those_that_run_later(
    restored: Callable[[Plan], Cluster],
) -> None:
    # It would fail, and with `up` believe that the snapshot does not work.
    plan = planned("t-speed.least=9")
    cluster = restored(plan)
    with pytest.raises(CheckFailed):
        check(cluster, Silent())
    check(cluster, Silent(), without={"t-speed"})
    check(cluster, Silent(), restored=True)


def test_the_record_is_no_part_of_what_a_snapshot_must_be_like(state: Path) -> None:
    (state / "vm-001.state").write_bytes(b"devices")
    before = store.describe(state)
    remember_passed(planned(), state)
    assert store.describe(state) == before


# --- what a check says --------------------------------------------------------------------


def test_place_hint_and_faults_of_an_authors_error_are_kept(
    restored: Callable[[Plan], Cluster],
) -> None:
    def run(_context: CheckContext) -> str:
        raise CheckFailed(
            "too slow",
            where="pod a/b",
            hint="take another cable",
            log="5",
            faults=("a loose cable",),
        )  # fmt: skip

    cluster = restored(planned())
    with pytest.raises(CheckFailed) as caught:
        check(cluster, Silent(), wanted=[Check(name="mine", run=run)])
    error = caught.value
    assert (str(error), error.log) == ("check mine: too slow", "5")
    assert error.where == f"pod a/b, cluster {cluster.name!r}"
    assert error.hint.startswith("take another cable; ")
    assert error.faults == ("a loose cable",)
