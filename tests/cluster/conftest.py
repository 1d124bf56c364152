"""What the cluster of one_node.py is made of."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest
from xk8s_images.layout import Member, layer_tar, write_layout

from tests.conftest import Xk8s


@pytest.fixture(scope="session")
def kubelet(xk8s: Xk8s, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that is in no cache: what a build of it would be, without the minutes."""
    found = xk8s.json("artifacts", "kubernetes", "--fetch", "--json", timeout=3000)["artifacts"]
    (path,) = (Path(artifact["path"]) for artifact in found if artifact["name"] == "kubernetes")
    own = tmp_path_factory.mktemp("own") / "kubelet"
    own.write_bytes((path / "kubelet").read_bytes() + os.urandom(16))
    own.chmod(0o755)
    return own


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Options that bake an image of an OCI archive, and one of a directory."""
    root = tmp_path_factory.mktemp("images")
    layer = layer_tar([Member(path="from", mode=0o644, data=b"an archive\n")])
    write_layout(root / "layout", ref="t.local/archive:1", layer=layer)
    with tarfile.open(root / "archive.tar", "w") as archive:
        for path in sorted((root / "layout").iterdir()):
            archive.add(path, path.name)
    (root / "files").mkdir()
    (root / "files" / "from").write_text("a directory\n")
    return ("-s", f"images.refs=oci-archive:{root / 'archive.tar'}",
            "-s", f"images.build=t.local/files:1={root / 'files'}")  # fmt: skip
