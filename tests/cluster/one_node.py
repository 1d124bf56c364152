"""One node with options and gates of its own, a kubelet of our own (see conftest.py), and images of
an archive and of a directory: for test_apply_kubernetes.py and test_ca_rotate.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
def one_node(xk8s: Xk8s, kubelet: Path, images: tuple[str, ...]) -> Iterator[Xk8s]:
    """The command for it, while it runs."""
    own = {"KUBERNETESD": str(kubelet.parent)}
    with ONE_NODE.running(xk8s, *images, env=own) as command:
        yield command
