"""Programs that build things: own process groups, output in a file, ended when work is cancelled.

Each program carries ``XK8S_BUILD=<lock file>`` in its environment. The lock is held by the xk8s
that runs it, so a program whose lock is free was left behind by a killed xk8s
(`end_leftovers`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from attrs import define, field
from filelock import FileLock, Timeout

from xk8s.errors import BuildError, HostError, Interrupted
from xk8s.util.disk_full import blamed
from xk8s.util.log import get_logger
from xk8s.util.processes import Process, processes_with

_log = get_logger(__name__)

MARK = "XK8S_BUILD"
_GRACE = 3.0
"""Seconds between asking a process group to end and killing it."""


def tail(path: Path, lines: int = 30) -> str:
    """Return the last lines of a log, for an error; at most 64 KiB are read."""
    try:
        with path.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 65536))
            text = stream.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


@define(eq=False)
class Jobs:
    """The programs that run now for one piece of work, from any thread."""

    _running: set[subprocess.Popen[bytes]] = field(factory=set, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    _cancelled: threading.Event = field(factory=threading.Event, init=False)

    def check(self) -> None:
        """Raise `Interrupted` once `cancel` was called; long loops call it."""
        if self._cancelled.is_set():
            raise Interrupted("cancelled")

    def cancel(self) -> None:
        """End every program and refuse new ones. Returns when their groups were signalled."""
        self._cancelled.set()
        with self._lock:
            running = list(self._running)
        _end(running)

    def acquire(
        self,
        lock: FileLock,
        waiting: Callable[[], None],
        *,
        needless: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take ``lock``, calling ``waiting`` once if another holds it; `Interrupted` when
        cancelled meanwhile. Returns without it when it became ``needless`` while waiting.
        """
        try:
            lock.acquire(timeout=0)
            return
        except Timeout:
            waiting()
        start = time.monotonic()
        _log.debug("lock_waiting", path=lock.lock_file)
        while not lock.is_locked and not needless():
            self.check()
            try:
                lock.acquire(timeout=0.5)
            except Timeout:
                continue
        seconds = round(time.monotonic() - start, 3)
        _log.debug("lock_waited", path=lock.lock_file, taken=lock.is_locked, duration_s=seconds)

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        log: Path,
        mark: str,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        stdout: Path | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> str:
        """Run a program to its end; its output (the standard output to ``stdout`` if given)
        is appended to ``log``, and returned unless it went to a file.

        ``env`` is added to ours. ``on_line`` sees the output while it comes. Raises
        `HostError` when the program is missing or blames the disk, `BuildError` with the
        log's tail when it fails, `Interrupted` when the work was cancelled.
        """
        words = [str(word) for word in argv]
        start = log.stat().st_size if log.exists() else 0
        _log.debug("program_started", argv=words, cwd=cwd or Path.cwd(),
                   environment=sorted(env or ()), stdin_bytes=len(stdin or b""))  # fmt: skip
        with _log.timed("program_run", argv=words) as result:
            with log.open("ab") as sink:
                process = self._start(words, sink.fileno(), mark, cwd, env, stdin, stdout)
            try:
                self._wait(process, log, start, stdin, on_line)
            finally:
                # Also behind a KeyboardInterrupt; a group may outlive its leader.
                _end([process])
                with self._lock:
                    self._running.discard(process)
                result["exit_code"] = process.returncode
        self.check()
        if process.returncode != 0:
            text = tail(log)
            if (known := blamed(text, cwd or log.parent)) is not None:
                raise known
            raise BuildError(
                f"{Path(words[0]).name} failed with exit code {process.returncode}",
                where=" ".join(words)[:300],
                log=text,
            )
        if stdout is not None:
            return ""
        with log.open("rb") as stream:
            stream.seek(start)
            return stream.read().decode(errors="replace")

    def _start(
        self,
        words: list[str],
        sink: int,
        mark: str,
        cwd: Path | None,
        env: Mapping[str, str] | None,
        stdin: bytes | None,
        stdout: Path | None,
    ) -> subprocess.Popen[bytes]:
        out = None if stdout is None else stdout.open("wb")
        try:
            with self._lock:
                self.check()
                process = subprocess.Popen(
                    words,
                    cwd=cwd,
                    env={**os.environ, **(env or {}), MARK: mark},
                    stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                    stdout=out or sink,
                    stderr=sink,
                    start_new_session=True,
                )
                self._running.add(process)
                return process
        except FileNotFoundError as error:
            raise HostError(
                f"the program {words[0]} is not installed",
                where="PATH",
                hint="./run installs what is needed on Debian; `xk8s doctor` lists it",
            ) from error
        finally:
            if out is not None:
                out.close()

    def _wait(
        self,
        process: subprocess.Popen[bytes],
        log: Path,
        start: int,
        stdin: bytes | None,
        on_line: Callable[[str], None] | None,
    ) -> None:
        if process.stdin is not None and stdin is not None:
            feeder = threading.Thread(target=_feed, args=(process, stdin), daemon=True)
            feeder.start()
        with log.open("rb") as stream:
            stream.seek(start)
            rest = b""
            while True:
                ended = _ended(process, 0.2 if on_line else 3600.0)
                if on_line is not None:
                    rest += stream.read()
                    *lines, rest = rest.split(b"\n")
                    for line in lines:
                        on_line(line.decode(errors="replace"))
                if ended:
                    return


def _feed(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(data)
        process.stdin.close()
    except BrokenPipeError:
        pass  # it ended without reading all: its exit code tells


def _ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _signal_group(pid: int, number: int) -> bool:
    """Return whether there was still a process in the group that ``pid`` leads."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _end(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """SIGTERM to the groups, a grace, SIGKILL."""
    alive = [process for process in processes if _signal_group(process.pid, signal.SIGTERM)]
    until = time.monotonic() + _GRACE
    while alive and time.monotonic() < until:
        for process in alive:
            process.poll()  # reaps the leader: else its group never gets empty
        alive = [process for process in alive if _signal_group(process.pid, 0)]
        time.sleep(0.02)
    for process in alive:
        _signal_group(process.pid, signal.SIGKILL)


def marked() -> dict[Process, str]:
    """Return the processes started by `Jobs.run`, with their marks."""
    found = processes_with(MARK)
    return {process: mark for process, mark in found if process.pid != os.getpid()}


def kill_marked(mark: str) -> list[int]:
    """Kill what still runs with this mark; only for the holder of that lock. Return the pids."""
    return [
        process.pid for process, its_mark in marked().items() if its_mark == mark and process.kill()
    ]


def end_leftovers(cache: Path) -> list[int]:
    """Kill build programs of this cache whose xk8s was killed (their lock is free). The pids."""
    killed: list[int] = []
    for mark in sorted({*marked().values()}):
        if not Path(mark).is_relative_to(cache) or not Path(mark).exists():
            continue
        try:
            with FileLock(mark, timeout=0):
                killed += kill_marked(mark)
        except Timeout:
            continue
    return killed
