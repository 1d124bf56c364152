"""What is written down about a cluster: its state directory, and the lock on it.

``RUNTIME/NAME.lock``   held by the command that changes the cluster
``clusters/NAME/``      record.json, request.json, plan.json, boot.json, now.json, pki/, nodes/,
                        local/, console/, kubeconfig

What VMs there are is in the record alone, and each change of that is one write of it. A command
that starts, stops or hands over VMs writes down beforehand what it is about to do (`Unfinished`),
so that the next one can finish it or take it back: see `xk8s.cluster.resume`.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import cattrs
import filelock
from attrs import Attribute, field, frozen

from xk8s.cluster.state.documents import read_document
from xk8s.errors import StateError
from xk8s.machine.qemu.command import Sockets
from xk8s.util.disk_full import is_full
from xk8s.util.files import overwrite
from xk8s.util.log import get_logger
from xk8s.util.paths import (
    clusters_dir,
    is_name,
    make_private,
    runtime_dir,
    runtime_root,
    state_dir,
    write_private,
)
from xk8s.util.processes import CLUSTER_VARIABLE, Process, leftovers

log = get_logger(__name__)

Phase = Literal["starting", "running", "failed"]
"""starting: an `up` is (or was, when it was killed) at work; running: checks passed or were
not asked for; failed: the VMs run but a check did not pass."""

RECORD = "record.json"
_VERSION = 2

Backing = Literal["anonymous", "shared", "private"]
"""RAM of the VMs: QEMU's own; a file that holds all of it (a save needs to keep just that
file); or a copy-on-write view of a saved file."""

_MAX_PID = 1 << 31


def _positive(_: object, attribute: Attribute[int], value: int) -> None:
    if not 0 < value < _MAX_PID:
        raise ValueError(f"{attribute.name} is {value}")


def _plain_name(_: object, attribute: Attribute[str], value: str) -> None:
    if not is_name(value):
        raise ValueError(f"{attribute.name} is {value!r}")


@frozen(kw_only=True)
class NodeRecord:
    """A started VM: ``pid`` of QEMU and its start time in clock ticks (to detect a reused pid);
    ``forwards`` maps a name to the port on 127.0.0.1. ``generation`` counts the processes that
    the VM had before (None: as many as the cluster says).
    """

    name: str = field(validator=_plain_name)
    role: str
    pid: int = field(validator=_positive)
    started: int
    forwards: dict[str, int] = field(factory=dict)
    generation: int | None = None

    @property
    def process(self) -> Process:
        """Return its QEMU, which a later process with the same pid is not."""
        return Process(pid=self.pid, started=self.started)


Step = Literal["pause", "hand over", "move", "join", "leave", "start"]
"""pause: all VMs stop for a while; hand over: new processes take over all VMs at the same moment;
move: one VM moves, with its RAM, into a new process; join, leave: VMs come or go; start: VMs that
are dead come back."""


@frozen(kw_only=True)
class Unfinished:
    """What a command is doing to VMs, or was, when it was killed. ``nodes``: the new processes,
    from the moment at which they all answer. For move, join, leave and start ``names`` has the VMs;
    for join and leave ``counts`` has the settings of the cluster that are right without them, and
    ``phase`` what it was before.
    """

    step: Step
    nodes: tuple[NodeRecord, ...] = ()
    names: tuple[str, ...] = ()
    counts: dict[str, int] = field(factory=dict)
    phase: Phase = "running"


@frozen(kw_only=True)
class Record:
    """What every other verb reads. ``seconds`` is how long `up` took, per stage.
    ``generation`` counts the times that new processes took over the VMs;
    ``snapshot`` is the label that it was last saved as or restored from.
    """

    version: int = _VERSION
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
    unfinished: Unfinished | None = None

    def sockets(self, node: str) -> Sockets:
        """Return the unix sockets of a node's present process."""
        own = next((recorded.generation for recorded in self.nodes if recorded.name == node), None)
        return sockets_of(self.name, node, self.generation if own is None else own)

    @property
    def latest(self) -> int:
        """The highest generation of any process."""
        return max([self.generation, *(node.generation or 0 for node in self.nodes)])

    @property
    def alive(self) -> bool:
        """Whether any of its VMs runs, or a process that was about to take one over."""
        new = self.unfinished.nodes if self.unfinished else ()
        return any(node.process.alive for node in (*self.nodes, *new))

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


def write_record(record: Record) -> None:
    """Replace the cluster's record in one step. On a full disk the new one takes the room of the
    old one: what runs can be written down whatever others do to the disk.
    """
    path = state_dir(record.name) / RECORD
    data = _converter.unstructure(record)
    try:
        write_private(path, json.dumps(data, indent=1).encode())
    except OSError as error:
        if not (is_full(error) and overwrite(path, json.dumps(data).encode())):
            raise


def read_record(name: str) -> Record | None:
    """Return the record, or None when there is no such file. `StateError` if it is not readable."""
    path = state_dir(name) / RECORD
    if not path.exists():
        return None
    return read_document(
        path,
        Record,
        version=_VERSION,
        what=f"which VMs cluster {name!r} has is unknown",
        converter=_converter,
        valid=lambda record: record.name == name,
    )


def readable_record(name: str) -> Record | None:
    """Return the record, or None when it is missing or cannot be read: for a list of clusters."""
    try:
        return read_record(name)
    except StateError:
        return None


def find_record(name: str) -> Record | None:
    """Return the record, or None when there is nothing of the cluster, neither a record nor a
    process. `StateError` when it cannot be read, or its VMs belong to another runtime directory.
    """
    record = read_record(name)
    if record is not None:
        check_runtime(record)
    elif living := leftovers(runtime_dir(name)):
        raise StateError(
            f"cluster {name!r} has no record, but processes of it run: "
            + ", ".join(str(process.pid) for process in living),
            where=str(state_dir(name) / RECORD),
            hint=f"`xk8s down --name {name}` ends them",
        )
    return record


def check_runtime(record: Record) -> None:
    """`StateError` when the cluster's VMs were started with another runtime directory."""
    own = str(runtime_dir(record.name).resolve())
    for node in record.nodes:
        mark = node.process.variable(CLUSTER_VARIABLE) if node.process.alive else None
        if mark is not None and mark != own:
            root = mark.rpartition("/")[0]
            raise StateError(
                f"cluster {record.name!r} runs with another runtime directory",
                where=mark,
                hint=f"set XK8S_RUNTIME={root} (it is {runtime_root()} now)",
            )


def list_clusters() -> tuple[str, ...]:
    """Return names of clusters with a state directory, sorted. What has no name of a cluster there
    is somebody else's.
    """
    try:
        entries = [path for path in clusters_dir().iterdir() if is_name(path.name)]
    except FileNotFoundError:
        return ()
    return tuple(sorted(path.name for path in entries if path.is_dir()))


_held: set[str] = set()
"""Clusters whose lock this process holds."""


def holds_lock(name: str) -> bool:
    """Return whether this process holds the cluster's lock."""
    return name in _held


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
        with contextlib.suppress(OSError):  # a full disk must not prevent `down`
            holder.write_text(f"{os.getpid()}\n")
        _held.add(name)
        yield
    finally:
        _held.discard(name)
        holder.unlink(missing_ok=True)
        lock.release()
        # The lock file itself stays while others may wait on it: unlinking a file that another
        # process has open would let two of them hold "the" lock.
