"""One node with options and gates of its own, a kubelet of our own, and images of an archive and of
a directory: for test_apply_kubernetes.py and test_ca_rotate.py.
"""

from __future__ import annotations

import contextlib
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xk8s.util.digest import digest
from xk8s.util.paths import cache_dir
from xk8s_images.layout import Member, layer_tar, write_layout

from tests.cluster.programs import kubernetes
from tests.cluster.shared import Shared
from tests.conftest import Xk8s

ONE_NODE = Shared(
    name="one-node",
    up=("kubernetes", "containerd", "coredns", "--nodes", "1", "--routers", "0",
        "-s", "kubernetes.apiserver_feature_gates=CrossNamespaceVolumeDataSource=true",
        "-s", "kubernetes.kubelet_feature_gates=ContainerCheckpoint=false",
        "-s", "kubernetes.apiserver_args=--max-requests-inflight=401",
        "-s", "kubernetes.kubelet_args=--max-pods=42"),
)  # fmt: skip


@contextmanager
def one_node(xk8s: Xk8s) -> Iterator[Xk8s]:
    """The command for it, while it runs."""
    files = own_files()
    images = ("-s", f"images.refs=oci-archive:{files / 'archive.tar'}",
              "-s", f"images.build=t.local/files:1={files / 'files'}")  # fmt: skip
    with ONE_NODE.running(xk8s, *images, env={"KUBERNETESD": str(files / "own")}) as command:
        yield command


def own_files() -> Path:
    """A directory with ``own/kubelet``, a program that no release has (what a build of it would be,
    without the minutes), an image's ``archive.tar``, and ``files``, of which one is made.

    It has the same path in each run: paths are part of a plan.
    """
    source = kubernetes() / "kubelet"
    place = cache_dir() / "tests" / f"one-node@{digest(str(source))[:12]}"
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=place.parent, prefix=".one-node"))
        _make(made, source)
        with contextlib.suppress(OSError):  # of another run, a moment ago
            made.rename(place)
        shutil.rmtree(made, ignore_errors=True)
    return place


def _make(place: Path, kubelet: Path) -> None:
    own = place / "own" / "kubelet"
    own.parent.mkdir()
    own.write_bytes(kubelet.read_bytes() + b"our own")
    own.chmod(0o755)
    layer = layer_tar([Member(path="from", mode=0o644, data=b"an archive\n")])
    write_layout(place / "layout", ref="t.local/archive:1", layer=layer)
    with tarfile.open(place / "archive.tar", "w") as archive:
        for path in sorted((place / "layout").iterdir()):
            archive.add(path, path.name)
    (place / "files").mkdir()
    (place / "files" / "from").write_text("a directory\n")
