"""Repair of unpacked image layers that were made in a user namespace, for root's overlayfs."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

OPAQUE = "user.overlay.opaque"


def make_portable(trees: Sequence[Path]) -> None:
    """Replace opaque marks of a user namespace in ``trees``, the unpacked layers of all images,
    by whiteouts, which every overlayfs understands.

    In a user namespace the program that unpacks marks a directory that hides those below by
    ``user.overlay`` attributes; root's mount in the node looks for ``trusted.overlay``, which
    only real root can set. Hiding each name that any other layer has there is the same: a
    whiteout with nothing below it does nothing.
    """
    for tree in trees:
        others = [other for other in trees if other != tree]
        for directory in sorted(path for path in tree.rglob("*") if _is_directory(path)):
            if OPAQUE in os.listxattr(directory):
                _hide(directory, [other / directory.relative_to(tree) for other in others])
                os.removexattr(directory, OPAQUE)


def _hide(directory: Path, others: list[Path]) -> None:
    below = [other for other in others if _is_directory(other)]
    for name in sorted({child.name for other in below for child in other.iterdir()}):
        own = directory / name
        if _is_directory(own):
            _hide(own, [other / name for other in below])
        elif not own.exists() and not own.is_symlink():
            os.mknod(own, stat.S_IFCHR, os.makedev(0, 0))


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
