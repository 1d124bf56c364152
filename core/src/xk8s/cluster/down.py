"""Take a cluster down, whole or half started: nothing of it is left."""

from __future__ import annotations

import shutil

from xk8s.cluster.state import failed_start
from xk8s.cluster.state.operation_log import LOGS
from xk8s.cluster.state.record import check_runtime, locked, readable_record
from xk8s.errors import MachineError
from xk8s.progress import Progress
from xk8s.util.files import remove_tree
from xk8s.util.jobs import end_leftovers
from xk8s.util.paths import cache_dir, memory_dir, runtime_dir, state_dir
from xk8s.util.processes import end, leftovers


def down(name: str, progress: Progress) -> bool:
    """End the cluster's processes and remove its directories. False when there was nothing."""
    with locked(name), progress.stage("down"):
        failed_start.forget(name)
        return sweep(name)


def sweep(name: str, *, keep_log: bool = False) -> bool:
    """Take the cluster down as `down` does, for a caller that holds the lock. ``keep_log`` keeps
    the logs of operations, for one that continues.
    """
    runtime, state = runtime_dir(name), state_dir(name)
    if record := readable_record(name):  # without it, too, its processes are found
        check_runtime(record)
    found = runtime.exists() or state.exists()
    processes = leftovers(runtime)
    # No time for an orderly shutdown: a node's whole state is its memory, which goes anyway.
    stuck = end(processes, grace=5.0)
    if stuck:
        raise MachineError(
            "processes do not end: " + ", ".join(f"{p.pid} ({p.command:.40})" for p in stuck),
            hint="inspect them with ps, and run `xk8s down` again",
        )
    end_leftovers(cache_dir())  # build programs of an `up` that was killed
    for directory in (runtime, memory_dir(name)):
        shutil.rmtree(directory, ignore_errors=True)
    if keep_log:
        for path in state.glob("*"):
            if path.name != LOGS:
                remove_tree(path)
    else:
        shutil.rmtree(state, ignore_errors=True)
    return found or bool(processes)
