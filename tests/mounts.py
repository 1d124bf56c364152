"""Small file systems of a test's own: a tmpfs, and ext4 on a loop device. Root alone can mount."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _mount(*words: str | Path) -> None:
    """Mount; the test is skipped where that is not possible."""
    if os.getuid() != 0:
        pytest.skip("only root may mount")
    for program in ("mount", "losetup", "mkfs.ext4"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}")
    done = subprocess.run(["mount", *words], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"this root may not mount: {done.stderr.strip()}")


@contextmanager
def tmpfs(place: Path, size: str) -> Iterator[Path]:
    """A tmpfs of that size."""
    place.mkdir(parents=True)
    _mount("-t", "tmpfs", "-o", f"size={size}", "none", place)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@contextmanager
def ext4(image: Path, place: Path, *options: str) -> Iterator[Path]:
    """The file system in an image."""
    place.mkdir(parents=True, exist_ok=True)
    _mount("-o", ",".join(["loop", *options]), image, place)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def make_ext4(image: Path, size: int) -> None:
    """Write an empty file system of ``size`` bytes, sparse."""
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", image], check=True)


@contextmanager
def failing_ext4(directory: Path) -> Iterator[Path]:
    """ext4 of 64 MiB whose disk takes 12: what is written beyond comes back as EIO when it is
    flushed, and the kernel may make the file system read-only.
    """
    with tmpfs(directory / "thin", "12m") as thin:
        make_ext4(thin / "image", 64 << 20)
        with ext4(thin / "image", directory / "disk") as disk:
            try:
                yield disk
            finally:
                subprocess.run(["sync", "-f", disk], check=False, capture_output=True)
