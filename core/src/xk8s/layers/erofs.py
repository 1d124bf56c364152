"""EROFS images by mkfs.erofs (erofs-utils 1.5 and later): same tree, same bytes."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from xk8s.artifacts.process import Jobs
from xk8s.artifacts.tree import tree_digest
from xk8s.errors import HostError

_NAMESPACE = uuid.UUID("6b7dbbdf-0f6c-5a37-8d3b-0f5f5a1d7b7a")
"""Of the UUIDs of our images: any fixed value does."""


def make_image(
    tree: Path, out: Path, *, digest: str = "", jobs: Jobs | None = None, mark: str = ""
) -> None:
    """Write the tree as an EROFS image to ``out`` (a file that is not there yet).

    Everything is owned by root with time 0 and no extended attributes; the image's UUID comes
    from ``digest`` (default: `tree_digest`). Not compressed: reading is what has to be fast,
    above all without KVM. Raises `HostError` when mkfs.erofs is missing or the disk is full,
    `BuildError` when it fails.
    """
    program = shutil.which("mkfs.erofs") or shutil.which("mkfs.erofs", path="/usr/sbin:/sbin")
    if program is None:
        raise HostError(
            "the program mkfs.erofs is not installed",
            where="PATH",
            hint="apt-get install erofs-utils (./run does it)",
        )
    identity = uuid.uuid5(_NAMESPACE, digest or tree_digest(tree))
    # Only options that 1.5 (Debian 12) and 1.8 (Debian 13) both have. -x-1: labels of the
    # build host's files would not be reproducible.
    log = out.with_name(f"{out.name}.log")
    options = ["-T0", f"-U{identity}", "--all-root", "-x-1"]
    try:
        (jobs or Jobs()).run([program, *options, out, tree], log=log, mark=mark)
    except BaseException:
        out.unlink(missing_ok=True)
        raise
    finally:
        log.unlink(missing_ok=True)
