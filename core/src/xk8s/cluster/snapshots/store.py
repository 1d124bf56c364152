"""Snapshot clusters on disk: what one is made of, whether it fits, and what there is.

``STATE/snapshots/CLUSTER/LABEL/``  meta.json, <node>.ram, <node>.state, <node>.<volume>.volume,
nodes/, pki/. The directory holds the memory of the VMs and so every key in it: mode 0700, files
0600.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import cattrs
from attrs import field, frozen

from xk8s.artifact_keys import artifact_key
from xk8s.cluster.inputs import ClusterInputs
from xk8s.cluster.state.booted import BootedCluster
from xk8s.cluster.state.documents import DAMAGED, structure
from xk8s.cluster.state.guest_files import GuestFiles
from xk8s.cluster.state.passed_checks import CHECKED
from xk8s.cluster.state.request_file import LOCAL
from xk8s.cluster.vms.machine_key import machine_key
from xk8s.errors import StateError, nearest
from xk8s.machine.qemu.accelerator import Accel
from xk8s.util import intact
from xk8s.util.digest import digest
from xk8s.util.files import remove_tree, tree_digest, walk
from xk8s.util.paths import check_name, snapshots_dir, snapshots_root, write_private
from xk8s.util.sparse import content_sum

AUTO = "auto-"
"""The snapshots that `up` keeps by itself begin so; the rest is of their key."""

WORK = ".new"
"""A snapshot has this behind its name while it is being saved."""

_FORMAT = 7
_META = "meta.json"
_VERIFIED = "verified"
"""Mark of `intact`: all of it was read since the host was started, and found as it was saved."""

_CHANGING = (_META, _VERIFIED, CHECKED)
"""What may be written again later is not part of what was saved."""


@frozen(kw_only=True)
class Snapshot:
    """A snapshot. ``key`` is that of the plan that it fits ("" when it fits none), ``machine`` that
    of QEMU and the CPU, ``digest`` that of the plan; ``files`` maps a file name to (bytes, time of
    change in ns); ``states`` has SHA-256s of small files, and ``sums`` the `content_sum` of those
    that are too large to be read at each restore; ``layers`` has the keys of the images that it
    needs, by name.
    """

    format: int = _FORMAT
    cluster: str
    label: str
    key: str
    machine: str = ""
    digest: str = ""
    overlays: tuple[str, ...]
    nodes: tuple[str, ...]
    created: float
    files: dict[str, tuple[int, int]]
    states: dict[str, str]
    sums: dict[str, str] = field(factory=dict)
    layers: dict[str, str] = field(factory=dict)

    @property
    def directory(self) -> Path:
        """The directory of the snapshot."""
        return directory(self.cluster, self.label)

    def ram(self, node: str) -> Path | None:
        """Return the node's RAM, or None when the state holds it."""
        path = self.directory / f"{node}.ram"
        return path if path.name in self.files else None

    def state(self, node: str) -> Path:
        """Return the state of the node's devices."""
        return self.directory / f"{node}.state"

    @property
    def automatic(self) -> bool:
        """Whether `up` keeps it by itself."""
        return self.label.startswith(AUTO)

    @property
    def used(self) -> float:
        """Time at which it was saved or restored last, in seconds since 1970."""
        try:
            return (self.directory / _META).stat().st_mtime
        except OSError:
            return self.created

    def mark_used(self) -> None:
        """Record that it is being restored now."""
        with contextlib.suppress(OSError):
            os.utime(self.directory / _META)

    @property
    def size(self) -> int:
        """Bytes on disk (holes do not count)."""
        # Not rglob: it stumbles over links of a local directory that lead nowhere here.
        return sum(path.lstat().st_blocks * 512 for path in walk(self.directory))


def directory(cluster: str, label: str) -> Path:
    """Return the directory of one snapshot."""
    return snapshots_dir(cluster) / check_name(label)


def auto_label(key: str) -> str:
    """Label of the snapshot that `up` keeps for a key."""
    return AUTO + key[:12]


def key_of(inputs: ClusterInputs) -> str:
    """Digest of what a saved state depends on: the plan, the images, QEMU and the CPU."""
    return digest(
        {
            "format": _FORMAT,
            "plan": inputs.plan.digest,
            "layers": {name: layer.key for name, layer in inputs.layers.items()},
            # Just those of the plan: what was built a moment ago comes with its inputs.
            "artifacts": [
                inputs.resolved[artifact_key(artifact)].digest for artifact in inputs.plan.artifacts
            ],
            "machine": machine_key(inputs.accel),
        }
    )


def layers_of(boot: BootedCluster, now: GuestFiles) -> dict[str, str]:
    """Images that a cluster's VMs have as disks, and those that it was changed to since."""
    changed = {
        f"{name} (applied)": key for name, key in now.layers.items() if boot.layers.get(name) != key
    }
    return {**boot.layers, **changed}


def write(saved: Snapshot, where: Path) -> None:
    """Write its description into ``where``, the last step of a save."""
    intact.note_compared(where / _VERIFIED, _parts(saved, where))
    write_private(where / _META, intact.seal(cattrs.unstructure(saved)).encode())


def describe(
    where: Path,
) -> tuple[dict[str, tuple[int, int]], dict[str, str], dict[str, str]]:
    """``files``, ``states`` and ``sums`` of a snapshot whose files are all written; the sums of RAM
    are left out: the copy gave them.
    """
    found = [path for path in sorted(where.iterdir()) if path.name not in _CHANGING]
    files = {
        path.name: (path.stat().st_size, path.stat().st_mtime_ns)
        for path in found
        if path.is_file()
    }
    states = {path.name: _sha256(path) for path in sorted(where.glob("*.state")) if is_small(path)}
    sums = {path.name: _sum(path) for path in found if path.suffix != ".ram"}
    return files, states, {name: text for name, text in sums.items() if name not in states}


def _sum(path: Path) -> str:
    return tree_digest(path) if path.is_dir() else content_sum(path)


def verify(saved: Snapshot) -> str | None:
    """Read all of it, which takes seconds: `problem`, or which file is damaged, or None."""
    if why := problem(saved):
        return why

    def compare() -> str | None:
        for name, expected in saved.sums.items():
            if _sum(saved.directory / name) != expected:
                return f"{name} is damaged"
        return None

    mark = saved.directory / _VERIFIED
    intact.forget(mark)
    return intact.damage(mark, _parts(saved, saved.directory), compare)


def verified(saved: Snapshot) -> bool:
    """Return whether it was verified (or saved) since this machine was started."""
    return intact.is_compared(saved.directory / _VERIFIED, _parts(saved, saved.directory))


def _parts(saved: Snapshot, where: Path) -> list[Path]:
    # Of the local directories not each file at each restore: there may be many.
    return [where / name for name in sorted({*saved.files, *saved.sums} - {LOCAL})]


def read(cluster: str, label: str) -> Snapshot | None:
    """Return the snapshot, or None when there is none (or a killed save left a part of one)."""
    return _load(directory(cluster, label))


def find(cluster: str, label: str) -> Snapshot:
    """Return the snapshot; `StateError` names the existing ones."""
    found = read(cluster, label)
    if found is None:
        known = [snapshot.label for snapshot in list_snapshots() if snapshot.cluster == cluster]
        raise StateError(
            f"cluster {cluster!r} has no snapshot {label!r}",
            hint=f"{nearest(label, known)}there are: {', '.join(known) or 'none'}",
        )
    return found


def problem(saved: Snapshot, key: str | None = None, *, accel: Accel | None = None) -> str | None:
    """Why the snapshot cannot be restored, or None. ``key`` None leaves the plan out, ``accel``
    None QEMU and the CPU.
    """
    if saved.format != _FORMAT:
        return "a different version of xk8s made it"
    if key is not None and saved.key != key:
        return "the plan, QEMU or the CPU has changed"
    if accel is not None and saved.machine != machine_key(accel):
        return "QEMU or the CPU has changed"
    for name, (size, changed) in saved.files.items():
        try:
            status = (saved.directory / name).stat()
        except OSError:
            return f"{name} is missing"
        if (status.st_size, status.st_mtime_ns) != (size, changed):
            return f"{name} was changed"
    for name, expected in saved.states.items():
        if not _is(saved.directory / name, expected):
            return f"{name} is damaged"
    return None


def _is(state: Path, expected: str) -> bool:
    try:
        return _sha256(state) == expected
    except OSError as error:
        if not intact.is_damage(error):
            raise
        return False


def list_snapshots(root: Path | None = None) -> tuple[Snapshot, ...]:
    """List the snapshots, by cluster and label; with ``root`` those of another state directory."""
    paths = sorted((root or snapshots_root()).glob(f"*/*/{_META}"))
    return tuple(snapshot for path in paths if (snapshot := _load(path.parent)))


def remove(saved: Snapshot) -> None:
    """Delete it. A cluster that runs from it keeps its memory: the files stay open. It loses its
    name first: who is killed meanwhile leaves no half of it.
    """
    gone = saved.directory.with_name(f"{saved.label}.removed")
    remove_tree(gone)
    saved.directory.rename(gone)
    remove_tree(gone)


def _load(where: Path) -> Snapshot | None:
    try:
        data = intact.unseal((where / _META).read_bytes())
        found = structure(data, Snapshot)
    except DAMAGED:
        return None
    # A save that was killed at its very end left all of it, under a name that is not its label.
    return found if (found.cluster, found.label) == (where.parent.name, where.name) else None


def is_small(path: Path) -> bool:
    """Return whether it can be hashed whenever it is used."""
    return path.stat().st_size < 64 << 20


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_data(saved: Snapshot) -> Mapping[str, object]:
    """Return data for ``--json``."""
    return {
        "cluster": saved.cluster,
        "label": saved.label,
        "created": saved.created,
        "overlays": list(saved.overlays),
        "nodes": list(saved.nodes),
        "bytes": saved.size,
        "problem": problem(saved),
    }
