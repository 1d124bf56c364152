"""A plain cluster of two nodes, and what has to hold for it whatever was killed."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

from attrs import define
from xk8s.testing import Xk8s

UP = ("debian", "--nodes", "2", "--routers", "0", "--memory", "320", "--cpus", "1")
FIRST = ("vm-001", "vm-002")
"""The nodes that it has from the beginning."""
MARK = "/root/mark"
_SECONDS = 600.0
UNEXPECTED = 70
"""Exit code of a bug of xk8s."""


class Lost(Exception):
    """What must hold does not."""


@define
class Lab:
    """The command, with a state of its own; ``mark`` is what the guests' memory has to hold."""

    xk8s: Xk8s
    mark: str = ""

    def run(self, *words: str, codes: tuple[int, ...] = (0,), failed: bool = False) -> str:
        """Run it to its end and return its stdout (``failed``: its stderr if it failed, or "");
        `Lost` for another exit code, or if it takes for ever.
        """
        done = self.xk8s.start(*words)
        try:
            out, err = done.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            done.kill()
            done.communicate()
            raise Lost(f"xk8s {' '.join(words)} did not end in {_SECONDS:.0f} s") from None
        if done.returncode not in codes:
            raise Lost(f"xk8s {' '.join(words)}: exit {done.returncode}: {err.strip()[-1500:]}")
        if failed:
            return err.strip() if done.returncode else ""
        return out

    def killed(self, words: tuple[str, ...], seconds: float) -> bool:
        """Kill it after that time; False: it had ended before."""
        process = self.xk8s.start(*words)
        try:
            process.communicate(timeout=seconds)
            if process.returncode == UNEXPECTED:
                raise Lost(f"xk8s {' '.join(words)} ended unexpectedly")
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            # Not `communicate`: children that outlive it may have its pipes.
            process.wait()
            return True
        finally:
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        return False

    def take(self, words: tuple[str, ...]) -> float:
        """Run it to its end and return how many seconds that took."""
        start = time.monotonic()
        self.run(*words)
        return time.monotonic() - start

    def up(self) -> None:
        """Let it run, with a mark in the memory of each node."""
        # With its checks: without them nothing would be saved, and each start be a cold one.
        self.run("up", *UP)
        self.set_mark("first")

    def set_mark(self, text: str) -> None:
        """Write it into each node's memory."""
        for node in self.nodes():
            self.run("exec", "-n", node, "--", "sh", "-c", f"echo {text} >{MARK}")
        self.mark = text

    def look(self) -> None:
        """Whatever was killed, status says how things are, without a bug."""
        self.run("status", "--json", codes=(0, 10))

    def nodes(self) -> list[str]:
        """The nodes that it has."""
        status = json.loads(self.run("status", "--json"))
        return [node["name"] for node in status["nodes"]]

    def whole(self, *names: str, mark: bool = True) -> None:
        """It runs, with these nodes; each answers, reaches the first one, and (``mark``) has in its
        memory what it had before.
        """
        self.run("check")
        if (found := self.nodes()) != [*names]:
            raise Lost(f"its nodes are {found}, not {[*names]}")
        for node in names:
            if self.run("exec", "-n", node, "--", "hostname").strip() != node:
                raise Lost(f"{node} has another name")
            self.run("exec", "-n", node, "--", "ping", "-c", "1", "-w", "30", names[0])
            known = self.run("exec", "-n", node, "--", "sh", "-c", f"cat {MARK} 2>&1; true").strip()
            if mark and node in FIRST and known != self.mark:
                raise Lost(f"{node} has the mark {known!r}, not {self.mark!r}")

    def down(self) -> None:
        """End it; nothing is left, and no snapshot is half of one."""
        self.run("down")
        if left := self.xk8s.left():
            raise Lost(f"left: {left}")
        assert self.xk8s.root is not None
        halves = [path for path in (self.xk8s.root / "s" / "snapshots").glob("*/*")
                  if "." in path.name]  # fmt: skip
        found = json.loads(self.run("snapshot", "list", "--json"))
        bad = [snapshot["label"] for snapshot in found if snapshot["problem"]]
        if halves or bad:
            raise Lost(f"snapshots are not whole: {halves} {bad}")


def directory(place: Path, text: str) -> Path:
    """A local directory with a file that nodes get."""
    path = place / "etc" / "applied"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return place
