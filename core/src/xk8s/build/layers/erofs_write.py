"""EROFS images by mkfs.erofs (erofs-utils 1.5 and later): same tree, same bytes."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from xk8s.errors import HostError
from xk8s.util import host_programs
from xk8s.util.files import tree_digest
from xk8s.util.jobs import Jobs

_NAMESPACE = uuid.UUID("6b7dbbdf-0f6c-5a37-8d3b-0f5f5a1d7b7a")
"""Of the UUIDs of our images: any fixed value does."""


ALIGNMENT = 2 << 20
"""Images are multiples of it: Linux maps them into memory in such pieces."""


def make_image(
    tree: Path, out: Path, *, digest: str = "", jobs: Jobs | None = None, mark: str = ""
) -> None:
    """Write the tree as an EROFS image to ``out`` (a file that does not exist yet).

    Everything is owned by root with time 0 and no extended attributes; the image's UUID comes
    from ``digest`` (default: `tree_digest`). Not compressed, and no file's end among the inodes:
    guests map the image as it is (DAX). Raises `HostError` when mkfs.erofs is missing or the disk
    is full, `BuildError` when it fails.
    """
    program = host_programs.find("mkfs.erofs")
    if program is None:
        raise HostError(
            "the program mkfs.erofs is not installed",
            where="PATH",
            hint=host_programs.hint("mkfs.erofs"),
        )
    identity = uuid.uuid5(_NAMESPACE, digest or tree_digest(tree))
    # Only options that 1.5 (Debian 12) and 1.8 (Debian 13) both have. -x-1: labels of the
    # build host's files would not be reproducible.
    log = out.with_name(f"{out.name}.log")
    options = ["-T0", "-Enoinline_data", f"-U{identity}", "--all-root", "-x-1"]
    try:
        (jobs or Jobs()).run([program, *options, out, tree], log=log, mark=mark)
        pad(out)
    except BaseException:
        out.unlink(missing_ok=True)
        raise
    finally:
        log.unlink(missing_ok=True)


def is_padded(image: Path) -> bool:
    """Return whether its size is a multiple of `ALIGNMENT`."""
    return image.stat().st_size % ALIGNMENT == 0


def pad(image: Path) -> None:
    """Let it end with a hole, up to a multiple of `ALIGNMENT`."""
    if not is_padded(image):  # an artifact that it is a link to keeps its time of change
        os.truncate(image, -(-image.stat().st_size // ALIGNMENT) * ALIGNMENT)
