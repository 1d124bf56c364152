"""Snapshots of the tests' clusters, kept in the cache: the next run restores what would boot to the
same.

`up` decides whether a snapshot fits, as for any user: plan, images, QEMU and CPU have to be the
same. What it cannot see is the code that boots: once that has changed, nothing kept is used. The
README's cluster is never kept: every run boots it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen
from filelock import FileLock
from xk8s.util.digest import digest
from xk8s.util.paths import cache_dir

from tests.suite.sources import ROOT

BOOTS = ("machine", "cluster")
"""Folders of the core whose code starts VMs, or judges whether they work."""

UNUSED_DAYS = 7
_LARGE = 1 << 20


@frozen
class Kept:
    """What is kept in ``root``, by cluster and `code`."""

    root: Path

    def bring(self, name: str, state: Path) -> None:
        """Put it among the snapshots of ``state``, unless that cluster has some there."""
        target = state / "snapshots" / name
        with self._locked():
            self._forget_unused()
            kept = self._place(name)
            if kept.is_dir() and not target.exists():
                os.utime(kept)
                _copy(kept, target)

    def keep(self, name: str, state: Path) -> None:
        """Keep the snapshots of ``state`` in place of older ones; nothing is done for the same."""
        source = state / "snapshots" / name
        if not source.is_dir():
            return
        with self._locked():
            kept = self._place(name)
            if kept.is_dir() and _labels(source) <= _labels(kept):
                return
            for old in self.root.glob(f"{name}@*"):
                shutil.rmtree(old)
            part = self.root / f".{name}"
            shutil.rmtree(part, ignore_errors=True)
            _copy(source, part)
            part.rename(kept)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(self.root / ".lock"):
            yield

    def _place(self, name: str) -> Path:
        return self.root / f"{name}@{code()}"

    def _forget_unused(self) -> None:
        for path in self.root.glob("*@*"):
            if time.time() - path.stat().st_mtime > UNUSED_DAYS * 86400:
                shutil.rmtree(path)


KEPT = Kept(cache_dir() / "tests" / "snapshots")
"""In the user's cache: clones share it."""


@functools.cache
def code(core: Path = ROOT / "core/src/xk8s") -> str:
    """A digest of the code that boots."""
    files = [path for folder in BOOTS for path in sorted((core / folder).rglob("*.py"))]
    return digest({str(path.relative_to(core)): path.read_text() for path in files})[:12]


def _labels(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> str:
    """Nobody writes to the large ones, the memory of VMs: another name for it is enough."""
    if Path(source).stat().st_size < _LARGE:
        return shutil.copy2(source, target)
    try:
        os.link(source, target)
    except OSError:
        argv = ["cp", "--archive", "--reflink=auto", "--sparse=always", source, target]
        subprocess.run(argv, check=True)
    return target
