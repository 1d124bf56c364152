"""Directories of xk8s on the host: cache, state of clusters, runtime sockets."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from pathlib import Path

import platformdirs

from xk8s.errors import UsageError
from xk8s.util.files import write_atomic

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


def is_name(name: str) -> bool:
    """Return whether it may be the name of a cluster, a VM or a snapshot."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str) -> str:
    """Return the cluster name itself, or `UsageError`: it becomes file and host names."""
    if not is_name(name):
        raise UsageError(
            f"{name!r} is not a cluster name",
            hint="use 1 to 32 lower-case letters, digits and dashes, e.g. --name ipv6-test",
        )
    return name


def cache_dir() -> Path:
    """$XK8S_CACHE, or xk8s in the user's cache directory. Holds artifacts/ and layers/."""
    return Path(os.environ.get("XK8S_CACHE") or platformdirs.user_cache_dir("xk8s"))


def cache_lock(cache: Path, name: str) -> Path:
    """Return the file ``name``.lock of a cache, with the directory of such files."""
    path = cache / "locks" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def is_locked(lock: Path) -> bool:
    """Return whether somebody holds a lock file."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def clusters_dir() -> Path:
    """Directory with one subdirectory of state per cluster ($XK8S_STATE/clusters)."""
    return Path(os.environ.get("XK8S_STATE") or platformdirs.user_state_dir("xk8s")) / "clusters"


def snapshots_root() -> Path:
    """Directory with the snapshots of all clusters ($XK8S_STATE/snapshots)."""
    return clusters_dir().parent / "snapshots"


def snapshots_dir(cluster: str) -> Path:
    """Return the directory of the snapshots of the clusters with that name
    ($XK8S_STATE/snapshots/NAME); they hold keys, so they must not be shared like a cache.
    """
    return snapshots_root() / check_name(cluster)


def state_dir(cluster: str) -> Path:
    """Plan, keys, consoles and records of one cluster."""
    return clusters_dir() / check_name(cluster)


def runtime_root() -> Path:
    """Short-named directory of sockets: a unix socket's path has at most 107 bytes."""
    if chosen := os.environ.get("XK8S_RUNTIME"):
        return Path(chosen)
    if session := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(session) / "xk8s"
    return Path(f"/tmp/xk8s-{os.getuid()}")  # noqa: S108 - made 0700 and checked on use


def runtime_dir(cluster: str) -> Path:
    """Sockets and pid files of one cluster; gone when the cluster is down."""
    return runtime_root() / check_name(cluster)


def memory_dir(cluster: str) -> Path:
    """RAM of one cluster's VMs, on a tmpfs: a file on a disk would be written back all the time
    ($XK8S_MEMORY, or /dev/shm/xk8s-UID). Clusters of one name in two runtime directories are
    two.
    """
    root = os.environ.get("XK8S_MEMORY") or f"/dev/shm/xk8s-{os.getuid()}"  # noqa: S108
    place = hashlib.sha256(os.fsencode(runtime_dir(cluster).absolute())).hexdigest()[:8]
    return Path(root) / f"{cluster}-{place}"


def make_private(directory: Path) -> Path:
    """Make ``directory`` with mode 0700 and check that it is ours: /tmp is shared."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise UsageError(
            f"{directory} is not a private directory of this user",
            hint=f"remove it or run: chmod 700 {directory}",
        )
    return directory


def write_private(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` with mode 0600, in one step: readers see old or new."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(path, data, mode=0o600)
