"""The checks of a cluster that runs, and what is told when one fails."""

from __future__ import annotations

from collections.abc import Sequence

from xk8s.checks import run_checks
from xk8s.cluster.checks.diagnosis import failed_check
from xk8s.cluster.handle import Cluster
from xk8s.overlay import Check
from xk8s.progress import Progress


def check(
    cluster: Cluster,
    progress: Progress,
    *,
    restored: bool = False,
    wanted: Sequence[Check] | None = None,
) -> None:
    """Run the checks of a cluster (of a restored one just those that want it), or those that are
    ``wanted``; `CheckFailed` with the log that matters for the first failure. Results are progress
    notes.
    """
    if wanted is None:
        wanted = [one for one in cluster.plan.checks if one.after_restore or not restored]
    by_name = {one.name: one for one in wanted}
    for result in run_checks(
        wanted,
        cluster.checks,
        alive=cluster.check_alive,
        progress=lambda name, text: progress.item(name, text),
    ):
        progress.finish(result.name)
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
