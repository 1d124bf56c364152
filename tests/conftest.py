"""What tests of the whole use: the command in a subprocess, with state of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen


@frozen(kw_only=True)
class Xk8s:
    """The command ``xk8s`` with its own state and runtime directories (the cache is the
    user's: building everything anew is what CI's first run does)."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        """Of the command's process."""
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
            [sys.executable, "-m", "xk8s.cli", *words],
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
        timeout: float = 300,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Run it to its end and expect an exit code; its stdout (stderr when it failed)."""
        done = subprocess.run(
            [sys.executable, "-m", "xk8s.cli", *words],
            env={**self.environment, **(env or {})},
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == code, (
            f"xk8s {' '.join(words)}: exit {done.returncode}\n{done.stdout[-3000:]}"
            f"\n{done.stderr[-6000:]}"
        )
        return done.stdout if code == 0 else done.stderr

    def json(self, *words: str, **more: Any) -> Any:
        """Its stdout as JSON."""
        return json.loads(self(*words, **more))

    def processes(self) -> list[str]:
        """Command lines of all processes that were started for clusters of this state."""
        mark = f"XK8S_CLUSTER={self.root}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found

    def left(self) -> list[str]:
        """What a cluster that is down must not have left: processes, sockets, state."""
        files = [
            str(path)
            for name in ("r", "s")
            for path in (self.root / name).rglob("*")
            # Snapshots are for the next `up`.
            if "snapshots" not in path.parts
            # A lock file that nobody holds is no lock; unlinking it would let two commands
            # hold "the" lock (one each of two inodes).
            and path.suffix != ".lock"
            and not (path.is_dir() and path.name == "clusters")
        ]
        return self.processes() + files


@pytest.fixture(scope="session")
def xk8s() -> Iterator[Xk8s]:
    """The command; whatever its tests leave running is ended."""
    with tempfile.TemporaryDirectory(prefix="xk8s-t-", dir="/tmp") as directory:
        root = Path(directory).resolve()
        command = Xk8s(root=root)
        try:
            yield command
        finally:
            command("down", "--all", timeout=120)
            assert command.left() == []
