"""What happens to a command: it is killed at a random moment, or its disk has no room left at some
stage.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from attrs import define, field

from tests.campaign.lab import Lab

_REFUSED = 5
"""Exit code for what this machine refuses."""
SIZE = 4 << 30
"""Bytes of the disk when nothing is wrong with it."""


class Fault(Protocol):
    """A fault of one kind."""

    name: str

    def measure(self, lab: Lab, words: tuple[str, ...]) -> None:
        """Run a command without any fault, to know what it takes."""

    def strike(self, lab: Lab, words: tuple[str, ...], moments: random.Random) -> str:
        """Run a command with the fault, which is over afterwards; return where it struck, or "" if
        the command succeeded nevertheless.
        """


@define
class Killed:
    """The command is killed by SIGKILL."""

    name: str = "kill"
    seconds: float = 0.0

    def measure(self, lab: Lab, words: tuple[str, ...]) -> None:
        """Measure how many seconds it takes."""
        self.seconds = lab.take(words)

    def strike(self, lab: Lab, words: tuple[str, ...], moments: random.Random) -> str:
        """Kill it some time before its usual end."""
        after = moments.uniform(0, self.seconds)
        where = f"after {after:.3f} of {self.seconds:.3f} s"
        return where if lab.killed(words, after) else ""


@define
class NoRoom:
    """The disk with the clusters' state and snapshots has no room left."""

    disk: Path
    name: str = "full disk"
    needed: int = 0
    _lowest: int = field(init=False, default=0)

    def measure(self, lab: Lab, words: tuple[str, ...]) -> None:
        """Measure how many bytes it takes at most."""
        before = self._free()
        with self._watched():
            lab.run(*words)
        self.needed = before - self._lowest

    def strike(self, lab: Lab, words: tuple[str, ...], moments: random.Random) -> str:
        """Leave some of the room that it needs, most often only little of it."""
        room = int(self.needed * moments.random() ** 3)
        used = shutil.disk_usage(self.disk).used
        self._resize(used + room)
        try:
            refused = lab.run(*words, codes=(0, _REFUSED), failed=True)
        finally:
            self._resize(SIZE)
        return f"with {room} of {self.needed} bytes left: {refused}" if refused else ""

    def _free(self) -> int:
        return shutil.disk_usage(self.disk).free

    def _resize(self, size: int) -> None:
        # A tmpfs counts whole pages.
        pages = -(-size // 4096)
        subprocess.run(["mount", "-o", f"remount,size={pages * 4096}", self.disk], check=True)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """See how little room there ever is meanwhile."""
        self._lowest, over = self._free(), threading.Event()

        def watch() -> None:
            while not over.wait(0.002):
                self._lowest = min(self._lowest, self._free())

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
