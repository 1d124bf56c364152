"""What is kept of an `up` whose VMs failed: texts alone, for `xk8s report`.

``STATE/failures/CLUSTER/``  error.txt, record.json, request.json, plan.json, console/, log/

It is there until the next `up` or `down` of that name.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from xk8s.cluster.state.node_paths import CONSOLES
from xk8s.cluster.state.operation_log import LOGS
from xk8s.cluster.state.record import RECORD
from xk8s.cluster.state.request_file import PLAN, REQUEST
from xk8s.errors import MachineError
from xk8s.util.paths import (
    check_name,
    clusters_dir,
    is_name,
    make_private,
    state_dir,
    write_private,
)

ERROR = "error.txt"


def failure_dir(name: str) -> Path:
    """Return its directory, if it exists."""
    return clusters_dir().parent / "failures" / check_name(name)


def keep(name: str, error: BaseException) -> bool:
    """Keep the output of the VMs of a failed `up`, before it is swept away. This is for VMs that
    failed by themselves: for all other errors the message is enough.
    """
    state = state_dir(name)
    logs = sorted((state / CONSOLES).glob("*.log"))
    if not isinstance(error, MachineError) or not logs:
        return False
    forget(name)
    target = failure_dir(name)
    lines = [str(error), f"where: {error.where}", f"do: {error.hint}", *error.faults, error.log]
    try:
        make_private(target.parent)
        make_private(target)
        write_private(target / ERROR, "\n".join(line for line in lines if line).encode())
    except OSError:
        return False  # a full disk: the error itself is what matters
    logs += (state / LOGS).glob("*.jsonl")
    for source in [*(state / file for file in (RECORD, REQUEST, PLAN)), *logs]:
        try:
            write_private(target / source.relative_to(state), source.read_bytes())
        except OSError:
            continue  # of a start that has hardly begun
    return True


def forget(name: str) -> None:
    """Remove what was kept."""
    shutil.rmtree(failure_dir(name), ignore_errors=True)
    with contextlib.suppress(OSError):  # others', or it was never there
        failure_dir(name).parent.rmdir()


def list_failures() -> tuple[str, ...]:
    """Return names of clusters whose last `up` left something, sorted."""
    try:
        names = (path.name for path in failure_dir("x").parent.iterdir())
        return tuple(sorted(name for name in names if is_name(name)))
    except FileNotFoundError:
        return ()
