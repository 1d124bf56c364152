"""The topmost layer of one node: its own small files, keys among them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from xk8s.build.layers.build import stage_entries
from xk8s.build.layers.erofs_write import make_image
from xk8s.overlay import File
from xk8s.util.disk_full import disk_guard
from xk8s.util.files import put_in_place


def make_node_image(files: Sequence[File], out: Path) -> None:
    """Write an EROFS image of ``files`` to ``out``, mode 0600 (it may hold keys), replacing it.

    Raises as `xk8s.build.layers.build.LayerStore.build` does; ``out`` is then as it was.
    """
    with (
        disk_guard(out.parent),
        # Beside the result, in the cluster's private directory: keys never touch a shared one.
        tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch,
    ):
        tree = Path(scratch) / "tree"
        image = Path(scratch) / "image"
        stage_entries(files, {}, tree, label=f"node image {out.name}")
        image.touch(mode=0o600)
        make_image(tree, image)
        image.chmod(0o600)
        put_in_place(image, out)
