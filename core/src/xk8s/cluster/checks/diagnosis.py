"""What is known of a cluster's trouble: faults recognised in its logs, and checks that failed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from attrs import frozen

from xk8s.checks import CheckResult, NotYet
from xk8s.cluster.checks.observe import Observed, observations, observe
from xk8s.cluster.handle import Cluster
from xk8s.cluster.state.node_paths import qemu_log
from xk8s.errors import CheckFailed, Xk8sError
from xk8s.faults.recognise import Hint, Log, recognise, table
from xk8s.overlay import Check
from xk8s.progress import Progress
from xk8s.util.lines import read_end


@frozen(kw_only=True)
class Examined:
    """Recognised faults, and which parts could not be searched, and why."""

    hints: tuple[Hint, ...]
    missing: tuple[str, ...]


def examine(cluster: Cluster, progress: Progress, *, first: Iterable[Log] = ()) -> Examined:
    """Known faults in ``first``, in the consoles and QEMU's words, and in what the overlays want
    searched on every node.
    """
    plan = cluster.plan
    seen = observe(
        cluster,
        [observation for observation in observations(plan) if observation.searched],
        progress,
    )
    faults = table(plan.registry, plan.ctx.overlays)
    consoles = [cluster.console_log(node.name) for node in cluster.record.nodes]
    own = [path for console in consoles for path in (console, qemu_log(console))]
    hints = recognise(faults, [*first, *console_logs(own), *as_logs(seen)])
    missing = dict.fromkeys(
        f"{observed.node}: {observed.problem}" for observed in seen if observed.problem
    )
    return Examined(hints=hints, missing=tuple(missing))


def console_logs(paths: Iterable[Path]) -> tuple[Log, ...]:
    """Return what guests and QEMUs left on the host, of consoles' logs and `qemu_log` ones: there
    even when a VM is not.
    """
    found = []
    for path in paths:
        try:
            text = read_end(path)
        except OSError:
            continue
        node = path.name.removesuffix(".log").removesuffix(".qemu")
        what = "QEMU" if path.name == qemu_log(Path(f"{node}.log")).name else "console"
        found.append(Log(where=f"{node}: {what}", text=text))
    return tuple(found)


def as_logs(seen: Iterable[Observed]) -> tuple[Log, ...]:
    """Return the searched outputs, as logs."""
    return tuple(
        Log(where=f"{observed.node}: {observed.name}", text=observed.text)
        for observed in seen
        if observed.searched
    )


def failed_check(
    cluster: Cluster, check: Check, result: CheckResult, progress: Progress, *, hint: str
) -> CheckFailed:
    """Return the error for a check that did not pass: with the log that it holds to matter, and the
    faults that are known of all logs.
    """
    log = result.log
    if check.explain is not None:
        try:
            log = "\n".join(part for part in (log, check.explain(cluster.checks)) if part)
        except (NotYet, TimeoutError, Xk8sError) as error:
            log = "\n".join(part for part in (log, f"(its log could not be read: {error})") if part)
    first = [Log(where=f"check {check.name}", text=f"{result.detail}\n{log}")]
    try:
        hints = examine(cluster, progress, first=first).hints
    except Xk8sError:  # what failed is the check: that is the error to tell
        hints = ()
    return CheckFailed(
        f"check {check.name}: {result.detail}",
        where=", ".join(filter(None, (result.where, f"cluster {cluster.name!r}"))),
        hint="; ".join(filter(None, (result.hint, hint))),
        log=log,
        faults=tuple(dict.fromkeys((*result.faults, *(str(fault_hint) for fault_hint in hints)))),
    )
