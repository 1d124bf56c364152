"""What is written down about a cluster: its state directory, and the lock on it.

``RUNTIME/NAME.lock``   held by the command that changes the cluster
``clusters/NAME/``      record.json, request.json, plan.json, boot.json, now.json, pki/, nodes/,
                        local/, console/, kubeconfig
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import cattrs
import filelock
from attrs import field, frozen

from xk8s.build.layers.build import stage_entries
from xk8s.errors import StateError
from xk8s.machine.qemu.command import Sockets
from xk8s.names.request import Request
from xk8s.planning.plan import Plan
from xk8s.util.digest import plain
from xk8s.util.files import remove_tree
from xk8s.util.log import get_logger
from xk8s.util.paths import (
    clusters_dir,
    make_private,
    runtime_dir,
    runtime_root,
    state_dir,
    write_private,
)
from xk8s.util.processes import Process

log = get_logger(__name__)

Phase = Literal["starting", "running", "failed"]
"""starting: an `up` is (or was, when it was killed) at work; running: checks passed or were
not asked for; failed: the VMs run but a check did not pass."""

RECORD, REQUEST, PLAN = "record.json", "request.json", "plan.json"
CONSOLES = "console"
"""Directory with what the consoles of the VMs and their QEMUs said: see `qemu_log`."""

LOCAL = "local"
"""Directory with copies of the local directories among the overlays, by number: these may change
or go while the cluster runs."""


Backing = Literal["anonymous", "shared", "private"]
"""RAM of the VMs: QEMU's own; a file that holds all of it (a save needs to keep just that
file); or a copy-on-write view of a saved file."""


@frozen(kw_only=True)
class NodeRecord:
    """A started VM: ``pid`` of QEMU and its start time in clock ticks (to detect a reused pid);
    ``forwards`` maps a name to the port on 127.0.0.1. ``generation`` counts the processes that
    the VM had before (None: as many as the cluster says).
    """

    name: str
    role: str
    pid: int
    started: int
    forwards: dict[str, int] = field(factory=dict)
    generation: int | None = None

    @property
    def process(self) -> Process:
        """Return its QEMU, which a later process with the same pid is not."""
        return Process(pid=self.pid, started=self.started)


@frozen(kw_only=True)
class Record:
    """What every other verb reads. ``seconds`` is how long `up` took, per stage.
    ``generation`` counts the times that new processes took over the VMs;
    ``snapshot`` is the label that it was last saved as or restored from.
    """

    version: int = 1
    name: str
    phase: Phase
    overlays: tuple[str, ...]
    digest: str
    accel: str
    memory: Backing = "anonymous"
    generation: int = 0
    snapshot: str = ""
    nodes: tuple[NodeRecord, ...] = ()
    seconds: dict[str, float] = field(factory=dict)

    def sockets(self, node: str) -> Sockets:
        """Return the unix sockets of a node's present process."""
        own = next((recorded.generation for recorded in self.nodes if recorded.name == node), None)
        return sockets_of(self.name, node, self.generation if own is None else own)

    @property
    def latest(self) -> int:
        """The highest generation of any process."""
        return max([self.generation, *(node.generation or 0 for node in self.nodes)])

    def node(self, name: str) -> NodeRecord:
        """Return the record of a node; `StateError` names the existing ones."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise StateError(
            f"cluster {self.name!r} has no node {name!r}",
            hint="it has " + ", ".join(node.name for node in self.nodes),
        )


_converter = cattrs.Converter()


def sockets_of(cluster: str, node: str, generation: int) -> Sockets:
    """While one process takes over from another, both have theirs."""
    return Sockets.below(runtime_dir(cluster), f"{node}.{generation}" if generation else node)


def qemu_log(console: Path) -> Path:
    """Return what a VM's QEMU said, beside the log of the VM's console."""
    return console.with_suffix(".qemu.log")


def write_record(record: Record) -> None:
    """Replace the cluster's record in one step."""
    write_private(
        state_dir(record.name) / RECORD,
        json.dumps(_converter.unstructure(record), indent=1).encode(),
    )


def read_record(name: str) -> Record | None:
    """Return the record, or None when there is none or an older version wrote it."""
    try:
        data = json.loads((state_dir(name) / RECORD).read_text())
        return _converter.structure(data, Record)
    except (OSError, ValueError, cattrs.BaseValidationError):
        return None


def write_inputs(plan: Plan) -> None:
    """Keep the plan, and the request in a form that gives the same plan again."""
    directory = state_dir(plan.name)
    write_private(directory / PLAN, json.dumps(plan.to_json(), indent=1).encode())
    settings: dict[str, dict[str, object]] = {}
    for value in plan.settings:
        if value.origin != "default":
            settings.setdefault(value.overlay, {})[value.name] = plain(value.value)
    # Choices are recorded as if they had been requested: the cluster keeps its CRI even if
    # another one becomes available later.
    request = {"overlays": list(plan.ctx.overlays), "settings": settings}
    write_private(directory / REQUEST, json.dumps(request, indent=1).encode())
    write_local(plan, directory)


def write_local(plan: Plan, directory: Path) -> None:
    """Copy what the plan has of local directories into ``directory``."""
    copies = directory / LOCAL
    remove_tree(copies)
    entries = {planned.layer.name: planned.layer.entries for planned in plan.layers}
    for number, override in enumerate(plan.directories):
        copies.mkdir(exist_ok=True)
        stage_entries(entries[override.layer], {}, copies / str(number), label=override.directory)


def read_request(name: str) -> Request:
    """Return the request that gives the running cluster's plan again."""
    directory = state_dir(name)
    path = directory / REQUEST
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StateError(
            f"cluster {name!r} has no readable request", where=str(path), hint="xk8s down"
        ) from error
    settings: Mapping[str, Mapping[str, object]] = data["settings"]
    return Request(
        overlays=tuple(data["overlays"]),
        name=name,
        stored=settings,
        environment={},
        kept=directory / LOCAL,
    )


def list_clusters() -> tuple[str, ...]:
    """Return names of clusters with a state directory, sorted."""
    try:
        return tuple(sorted(path.name for path in clusters_dir().iterdir() if path.is_dir()))
    except FileNotFoundError:
        return ()


def lock_file(name: str) -> Path:
    """Return the file whose lock `locked` holds."""
    return runtime_root() / f"{name}.lock"


@contextlib.contextmanager
def locked(name: str, *, timeout: float = 10.0) -> Iterator[None]:
    """Hold the cluster's lock. It is a kernel lock: a killed holder leaves it free.

    Raises `StateError` with the pid of the holder when it is not free after ``timeout`` s.
    """
    make_private(runtime_root())
    path = lock_file(name)
    lock = filelock.FileLock(path, timeout=timeout, mode=0o600)
    holder = path.with_suffix(".pid")
    start = time.monotonic()
    try:
        lock.acquire()
        log.debug("cluster_locked", cluster=name, duration_s=round(time.monotonic() - start, 3))
    except filelock.Timeout:
        with contextlib.suppress(OSError):
            text = holder.read_text().strip()
            raise StateError(
                f"another command is working on cluster {name!r} (process {text})",
                where=str(path),
                hint="wait for it, stop it, or use another --name",
            ) from None
        raise StateError(
            f"another command is working on cluster {name!r}", where=str(path)
        ) from None
    try:
        holder.write_text(f"{os.getpid()}\n")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
        # The lock file itself stays while others may wait on it: unlinking a file that another
        # process has open would let two of them hold "the" lock.
