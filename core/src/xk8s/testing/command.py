"""The command ``xk8s`` in a subprocess, as tests use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from xk8s.util.processes import CLUSTER_VARIABLE, processes_with


@frozen(kw_only=True)
class Xk8s:
    """The command with state and runtime directories of its own, below ``root`` (the cache is the
    user's: building everything again is what CI's first run does). ``root`` None: those of the
    user. ``common`` are options for every call; ``python`` is of the environment that has xk8s.
    """

    root: Path | None
    directory: Path | None = None
    common: tuple[str, ...] = ()
    python: Path = Path(sys.executable)

    @property
    def environment(self) -> dict[str, str]:
        """Environment of the command's process."""
        if self.root is None:
            return dict(os.environ)
        mine = {key: value for key, value in os.environ.items() if not key.startswith("XK8S_C")}
        if cache := os.environ.get("XK8S_CACHE"):
            mine["XK8S_CACHE"] = cache
        return {
            **mine,
            "XK8S_STATE": str(self.root / "s"),
            "XK8S_RUNTIME": str(self.root / "r"),
        }

    def start(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        """Run it in the background, in a process group of its own, stdout and stderr piped."""
        return subprocess.Popen(
            [self.python, "-m", "xk8s.cli", *self.common, *words],
            cwd=more.pop("cwd", self.directory),
            env={**self.environment, **more.pop("env", {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
            **more,
        )

    def __call__(
        self,
        *words: str,
        code: int = 0,
        timeout: float = 900,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Run it to its end and expect an exit code; its stdout (stderr when it failed)."""
        done = subprocess.run(
            [self.python, "-m", "xk8s.cli", *self.common, *words],
            cwd=self.directory,
            env={**self.environment, **(env or {})},
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == code, (
            f"xk8s {' '.join(words)}: exit {done.returncode}\n{_ends(done.stdout)}"
            f"\n{_ends(done.stderr)}"
        )
        return done.stdout if code == 0 else done.stderr

    def json(self, *words: str, **more: Any) -> Any:
        """Return its stdout as JSON."""
        return json.loads(self(*words, **more))

    def processes(self) -> list[str]:
        """Command lines of all processes that were started for clusters of this state."""
        assert self.root is not None, "the user's own clusters are not ours to look at"
        root = self.root.resolve()
        return [
            process.command
            for process, runtime in processes_with(CLUSTER_VARIABLE)
            if Path(runtime).is_relative_to(root)
        ]

    def left(self) -> list[str]:
        """Return what a cluster that is down must not have left: processes, sockets, state."""
        assert self.root is not None, "the user's own clusters are not ours to look at"
        files = [
            str(path)
            for name in ("r", "s")
            for path in (self.root / name).rglob("*")
            # Snapshots are for the next `up`.
            if "snapshots" not in path.parts
            # A lock file that nobody holds is not a lock; unlinking it would let two commands
            # hold "the" lock (one each of two inodes).
            and path.suffix != ".lock"
            and not (path.is_dir() and path.name == "clusters")
        ]
        return self.processes() + files


def _ends(text: str, length: int = 6000) -> str:
    """Return what a command printed, in short: how it begins says what failed, how it ends how it
    was.
    """
    cut = len(text) - length
    return text if cut <= 0 else f"{text[: length // 2]}\n[… {cut} …]\n{text[-length // 2 :]}"


def own_command() -> Iterator[Xk8s]:
    """The command with state of its own, which is empty again at the end."""
    # Sockets want short paths.
    with tempfile.TemporaryDirectory(prefix="xk8s-t-", dir="/tmp") as directory:
        command = Xk8s(root=Path(directory).resolve())
        try:
            yield command
        finally:
            command("down", "--all", timeout=120)
            assert command.left() == []
