"""Collecting the parts of a report: from the host, the cluster's records, its nodes.

By allow-list: of the state directory only what is named here is read, of nodes only what the
overlays' observations print. All of it is scrubbed on its way in (`Contents.add`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import attrs

from xk8s.cluster.checks.diagnosis import as_logs, console_logs
from xk8s.cluster.checks.observe import Observed, observations, observe
from xk8s.cluster.checks.run import results_of
from xk8s.cluster.handle import Cluster
from xk8s.cluster.state.failed_start import ERROR, failure_dir
from xk8s.cluster.state.node_paths import CONSOLES
from xk8s.cluster.state.operation_log import LOGS
from xk8s.cluster.state.record import RECORD, list_clusters, readable_record
from xk8s.cluster.state.request_file import PLAN, REQUEST
from xk8s.cluster.state.secrets import PKI
from xk8s.errors import StateError
from xk8s.faults.core import CORE_FAULTS
from xk8s.faults.recognise import Hint, Log, recognise, table
from xk8s.overlay import Fault
from xk8s.planning.plan import Plan
from xk8s.progress import Progress
from xk8s.report.contents import Contents
from xk8s.report.host import findings, versions
from xk8s.report.summary import Summary, summary
from xk8s.util.lines import read_end
from xk8s.util.paths import clusters_dir, state_dir
from xk8s.util.scrub import Scrubber, keys_below

CHECK_SECONDS = 30.0
"""So long a check may wait for what is not so yet: a report is for what is wrong now."""

_TRACEBACKS = 3
_NAMESPACE = {
    "addresses": ("ip", "-s", "-d", "address"),
    "routes": ("ip", "route", "show", "table", "all"),
    "routes-ipv6": ("ip", "-6", "route", "show", "table", "all"),
    "neighbours": ("ip", "neighbour"),
    "bridges": ("bridge", "fdb", "show"),
}
"""Commands in the cluster's network namespace, where its bridges are: file name -> argv."""


@attrs.frozen(kw_only=True)
class CollectedReport:
    """A finished report: its files, and what its summary says."""

    contents: Contents
    hints: tuple[Hint, ...]
    checks: tuple[dict[str, Any], ...]


def collect(name: str, progress: Progress, *, checks: bool = True) -> CollectedReport:
    """Return the report of a cluster that runs, whole or in part, or of what a failed `up` left.

    Raises `StateError` when there is neither; all else that goes wrong is noted in the report.
    """
    record = readable_record(name)
    if record is not None:
        return _collect(name, state_dir(name), Cluster(record), progress, checks)
    if failure_dir(name).is_dir():
        return _collect(name, failure_dir(name), None, progress, False)
    if state_dir(name).is_dir():  # of an `up` that did not come to its VMs yet
        return _collect(name, state_dir(name), None, progress, False)
    nothing = (
        "an `up` that fails before its VMs run leaves nothing but its message. "
        "`xk8s doctor` examines this machine"
    )
    known = ", ".join(list_clusters())
    raise StateError(
        f"there is no cluster {name!r}, and no failed start of it",
        where=str(state_dir(name)),
        hint=f"there are: {known}" if known else nothing,
    )


def _collect(
    name: str, directory: Path, cluster: Cluster | None, progress: Progress, checks: bool
) -> CollectedReport:
    made = time.time()
    # Also those that are to replace them, and those that were replaced (`ca rotate`).
    keys = keys_below(*sorted(state_dir(name).glob(f"{PKI}*")))
    contents = Contents(f"xk8s-report-{name}", Scrubber(keys))
    known = Summary(cluster=name, made=made)
    with progress.stage("host"):
        with contents.part("host/versions.json"):
            known.versions = versions()
            contents.add_json("host/versions.json", known.versions)
        with contents.part("host/doctor.txt"):
            contents.add("host/doctor.txt", findings())
        _tracebacks(contents)
    _files(contents, directory)
    if (error := directory / ERROR).is_file():
        known.failed = contents.scrub(error.read_text(errors="replace"))
        contents.add(f"cluster/{ERROR}", known.failed)
    logs = [*console_logs(sorted((directory / CONSOLES).glob("*.log")))]
    faults: Sequence[Fault] = CORE_FAULTS
    seen: tuple[Observed, ...] = ()
    if cluster is not None:
        plan = None
        with contents.part("the plan of the cluster"):
            plan = cluster.plan
            faults = table(plan.registry, plan.ctx.overlays)
        known.record = cluster.record
        known.alive = {node.name: cluster.alive(node.name) for node in cluster.record.nodes}
        with contents.part("cluster/status.json"):
            contents.add_json("cluster/status.json", cluster.status())
        with progress.stage("network"):
            _network(contents, cluster)
        if plan is not None:
            with progress.stage("nodes"):
                seen = _nodes(contents, cluster, plan, progress)
            if checks and plan.checks:
                with progress.stage("checks"):
                    known.checks = _checks(contents, cluster, plan, progress)
    failures = "\n".join(str(check["detail"]) for check in known.checks if not check["ok"])
    if failures:
        logs.append(Log(where="checks", text=failures))
    with contents.part("the recognition of faults"):
        known.hints = tuple(
            attrs.evolve(hint, line=contents.scrub(hint.line))
            for hint in recognise(faults, [*logs, *as_logs(seen)])
        )
    contents.add("REPORT.md", summary(known, contents))
    return CollectedReport(contents=contents, hints=known.hints, checks=known.checks)


def _tracebacks(contents: Contents) -> None:
    """The last ones of xk8s itself."""
    paths = sorted(clusters_dir().parent.glob("traceback-*.log"))[-_TRACEBACKS:]
    for path in paths:
        with contents.part(f"host/{path.name}"):
            contents.add(f"host/{path.name}", path.read_text(errors="replace"))


def _files(contents: Contents, directory: Path) -> None:
    for name in (PLAN, REQUEST, RECORD):
        with contents.part(f"cluster/{name}"):
            contents.add(f"cluster/{name}", (directory / name).read_text(errors="replace"))
    for path in sorted((directory / LOGS).glob("*.jsonl")):
        with contents.part(f"cluster/{LOGS}/{path.name}"):
            contents.add(f"cluster/{LOGS}/{path.name}", read_end(path))
    for path in sorted((directory / CONSOLES).glob("*.log")):
        node, qemu = path.name.removesuffix(".log"), ".qemu"
        what = "qemu" if node.endswith(qemu) else "console"
        with contents.part(f"nodes/{path.name}"):
            text = read_end(path)
            contents.add(f"nodes/{node.removesuffix(qemu)}/{what}.log", text)


def _network(contents: Contents, cluster: Cluster) -> None:
    """The bridges and taps that connect the VMs."""
    with contents.part("network"):
        namespace = cluster.namespace
        for name, argv in _NAMESPACE.items():
            with contents.part(f"network/{name}.txt"), TemporaryFile() as out:
                process = namespace.exec(argv, stdout=out, stderr=out)
                code = process.wait(timeout=20.0)
                out.seek(0)
                contents.add(f"network/{name}.txt", out.read().decode(errors="replace"))
                if code != 0:
                    contents.miss(f"network/{name}.txt", f"exit code {code}")


def _nodes(
    contents: Contents, cluster: Cluster, plan: Plan, progress: Progress
) -> tuple[Observed, ...]:
    seen = observe(cluster, observations(plan), progress)
    gone: dict[tuple[str, str], list[str]] = {}
    for observed in seen:
        if observed.text:
            suffix = "" if "." in observed.name.rpartition("/")[2] else ".txt"
            contents.add(f"nodes/{observed.node}/{observed.name}{suffix}", observed.text)
        if observed.problem:
            gone.setdefault((observed.node, observed.problem), []).append(observed.name)
    for (node, problem), names in gone.items():  # of a dead node all for the same reason
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        contents.miss(f"nodes/{node}/{names[0]}{more}", problem)
    return seen


def _checks(
    contents: Contents, cluster: Cluster, plan: Plan, progress: Progress
) -> tuple[dict[str, Any], ...]:
    """Each has a short while only, and the first that fails ends it, as with `xk8s check`."""
    cluster = cluster.without(cluster.absent)
    plan = cluster.plan
    limits = {check.name: check.timeout for check in plan.checks}
    quick = [
        attrs.evolve(check, timeout=min(check.timeout, CHECK_SECONDS)) for check in plan.checks
    ]
    found: list[dict[str, Any]] = []
    with contents.part("cluster/checks.json"):
        for result in results_of(cluster, quick, progress):
            detail = result.detail
            if not result.ok and min(limits[result.name], result.seconds) > CHECK_SECONDS:
                detail += f" (`xk8s check` gives it {limits[result.name]:.0f} s)"
            found.append(
                {"name": result.name, "ok": result.ok, "seconds": round(result.seconds, 1),
                 "detail": contents.scrub(detail)}
            )  # fmt: skip
    contents.add_json("cluster/checks.json", found)
    return tuple(found)


__all__ = ["CollectedReport", "collect"]
