"""Processes found by a mark in their environment, and how to end exactly those.

Every process of a cluster carries its runtime directory in the environment (a program that builds
something its lock), so that it is found even when the `xk8s up` that started it was killed before
it could write anything down.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from attrs import frozen

CLUSTER_VARIABLE = "XK8S_CLUSTER"


@frozen(kw_only=True, order=True)
class Process:
    """A process, distinguished from a later one with the same pid by its start time (in clock
    ticks since boot, field 22 of /proc/PID/stat).
    """

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process:
        """Return the process that has this pid now; OSError when there is none."""
        return cls(pid=pid, started=_started(pid))

    @property
    def alive(self) -> bool:
        """Whether it still runs (a zombie does not)."""
        try:
            state, started = _state(self.pid), _started(self.pid)
        except OSError:
            return False
        return started == self.started and state not in "ZX"

    def kill(self) -> bool:
        """Send SIGKILL; return whether it was there and ours to kill. Does not wait for its end."""
        fd = _pin(self)
        if fd is None:
            return False
        try:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    @property
    def command(self) -> str:
        """Return its command line, or "" if it is gone."""
        try:
            words = Path(f"/proc/{self.pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return ""
        return b" ".join(words).decode(errors="replace").strip()

    def variable(self, name: str) -> str | None:
        """Return a variable of its environment; None if it has none, is gone or is another
        user's.
        """
        prefix = f"{name}=".encode()
        try:
            words = Path(f"/proc/{self.pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return None
        values = (word.removeprefix(prefix) for word in words if word.startswith(prefix))
        value = next(values, None)
        return None if value is None else os.fsdecode(value)


_PASSED = frozenset(
    {"HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER",
     "XDG_RUNTIME_DIR"}
)  # fmt: skip


def clean_environment() -> dict[str, str]:
    """Return what a process that outlives the command gets of its environment. The rest (tokens of
    clouds, sockets of key agents) is nothing that it needs.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED or name.startswith("LC_")
    }


def cluster_environment(runtime_dir: Path, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """``env`` (default: `clean_environment`) with the mark of the cluster."""
    environment = dict(clean_environment() if env is None else env)
    environment[CLUSTER_VARIABLE] = str(runtime_dir.resolve())
    return environment


def all_processes() -> Iterator[Process]:
    """Yield what runs now, kernel threads and other users' processes too."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):  # gone meanwhile
                yield Process.of(int(entry.name))


def processes_with(variable: str) -> Iterator[tuple[Process, str]]:
    """Yield the processes that have a variable in their environment, and its value. Those of other
    users are left out unless their environment may be read.
    """
    for process in all_processes():
        if (value := process.variable(variable)) is not None:
            yield process, value


def leftovers(runtime_dir: Path) -> tuple[Process, ...]:
    """Return the processes of this user that carry the cluster's mark, by pid; without this
    process and its parents (an `xk8s` that was itself started from inside is not its own leftover).
    """
    mark = str(runtime_dir.resolve())
    spare = _lineage()
    found = []
    for process, value in processes_with(CLUSTER_VARIABLE):
        if value == mark and process.pid not in spare:
            with contextlib.suppress(OSError):
                if Path(f"/proc/{process.pid}").stat().st_uid == os.getuid():
                    found.append(process)
    return tuple(sorted(found))


def end(processes: Iterable[Process], *, grace: float = 5.0) -> tuple[Process, ...]:
    """Send SIGTERM, and SIGKILL to those that are left after ``grace`` seconds. Return those that
    even so did not go within two seconds more (stuck in the kernel): normally none.
    """
    watched: dict[int, Process] = {}
    try:
        for process in processes:
            if (fd := _pin(process)) is not None:
                watched[fd] = process
        left = _signal_and_wait(watched, set(watched), signal.SIGTERM, grace)
        left = _signal_and_wait(watched, left, signal.SIGKILL, 2.0)
        return tuple(sorted(watched[fd] for fd in left))
    finally:
        for fd in watched:
            os.close(fd)


def _pin(process: Process) -> int | None:
    """Return a pidfd of exactly that process, for the caller to close; None if it is gone."""
    try:
        fd = os.pidfd_open(process.pid)
    except OSError:
        return None
    # The start time is read after pidfd_open: from then on the pid is pinned.
    with contextlib.suppress(OSError):
        if _started(process.pid) == process.started:
            return fd
    os.close(fd)
    return None


def _signal_and_wait(
    watched: Mapping[int, Process], fds: set[int], number: int, seconds: float
) -> set[int]:
    poll = select.poll()
    for fd in fds:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, number)
        poll.register(fd, select.POLLIN)
    left, deadline = set(fds), time.monotonic() + seconds
    while left and (remaining := deadline - time.monotonic()) > 0:
        for fd, _ in poll.poll(remaining * 1000):
            poll.unregister(fd)
            left.discard(fd)
            # Our child stays a zombie, and in /proc, until it is reaped.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(watched[fd].pid, os.WNOHANG)
    return left


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat from field 3 on: the name in field 2 may hold anything, even ")" or half a
    character.
    """
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()


def _state(pid: int) -> str:
    return _stat(pid)[0]


def _started(pid: int) -> int:
    return int(_stat(pid)[19])


def _lineage() -> set[int]:
    pids, pid = set(), os.getpid()
    while pid > 0 and pid not in pids:
        pids.add(pid)
        try:
            pid = int(_stat(pid)[1])
        except OSError:
            break
    return pids
