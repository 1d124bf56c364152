"""Run the checks of a running cluster, and say what matters when one fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from itertools import chain
from pathlib import Path

from xk8s.checks import CheckResult, run_checks
from xk8s.cluster.checks.diagnosis import failed_check
from xk8s.cluster.handle import Cluster
from xk8s.cluster.state.passed_checks import checks_of, remember_passed
from xk8s.overlay import Check
from xk8s.progress import Progress


def results_of(
    cluster: Cluster, checks: Iterable[Check], progress: Progress
) -> Iterator[CheckResult]:
    """Run checks in order and yield each result as it arrives, up to the first failure. What a
    check sees meanwhile is progress; a VM that does not run ends them with its error, unless
    the cluster is seen `without` it.
    """
    for result in run_checks(
        checks, cluster.checks, alive=cluster.check_present, progress=progress.item
    ):
        progress.finish(result.name)
        yield result


def check(
    cluster: Cluster,
    progress: Progress,
    *,
    restored: bool = False,
    without: Set[str] = frozenset(),
    wanted: Sequence[Check] | None = None,
) -> None:
    """Run the checks of a cluster (of a restored one just those that want it; none of the overlays
    ``without``), or those that are ``wanted``; `CheckFailed` with the log that matters for the
    first failure. Results are progress notes.
    """
    if wanted is None:
        kept = [own for name, own in checks_of(cluster.plan).items() if name not in without]
        wanted = [
            check for check in chain.from_iterable(kept) if check.after_restore or not restored
        ]
    by_name = {check.name: check for check in wanted}
    for result in results_of(cluster, wanted, progress):
        if result.ok:
            progress.note(f"check {result.name}: {result.detail} ({result.seconds:.1f} s)")
            continue
        raise failed_check(
            cluster,
            by_name[result.name],
            result,
            progress,
            hint="the VMs are still running: `xk8s logs`, `xk8s exec`, `xk8s report`; "
            "shut down with `xk8s down`",
        )


def check_again(cluster: Cluster, overlays: Set[str], progress: Progress, snapshot: Path) -> None:
    """Run all checks of those ``overlays`` of a cluster restored from the directory ``snapshot``
    whose checks depend on something else than when they passed; remember it in both places when
    they pass.
    """
    due = {name: own for name, own in checks_of(cluster.plan).items() if name in overlays}
    if not due:
        return
    progress.note(f"checking {', '.join(due)} again: what its checks depend on has changed")
    with progress.stage("checks of changes"):
        check(cluster, progress, wanted=tuple(chain.from_iterable(due.values())))
    for directory in (cluster.state_dir, snapshot):
        remember_passed(cluster.plan, directory, due)


__all__ = ["check", "check_again", "results_of"]
