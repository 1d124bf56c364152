"""CRI-O as container runtime. It is in no package registry, so this runs where a directory with
its programs is given: XK8S_CRIO_DIR=… ./run pytest tests/cluster/test_crio.py
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.hello_image import load_and_run
from tests.cluster.kubectl import kubectl_of
from tests.conftest import Xk8s

DIRECTORY = os.environ.get("XK8S_CRIO_DIR", "")
GIVEN = {"XK8S_CRIO_DIR": DIRECTORY}

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(
        not DIRECTORY or not (Path(DIRECTORY) / "crio").is_file(),
        reason="no directory with CRI-O's programs is given (XK8S_CRIO_DIR)",
    ),
]


@pytest.fixture(scope="module")
def cluster(xk8s: Xk8s) -> Iterator[Xk8s]:
    """The README's cluster with CRI-O, which nobody named: the directory makes it the default."""
    try:
        xk8s("--name", "crio", "up", "kubernetes", "coredns", "externalip",
             "-s", "cluster.snapshot=false", env=GIVEN, timeout=3000)  # fmt: skip
        yield xk8s
    finally:
        xk8s("--name", "crio", "down")


def guest(cluster: Xk8s, node: str, *words: str) -> str:
    return cluster("--name", "crio", "exec", node, "--", *words)


def test_crio_is_the_default_and_says_why(xk8s: Xk8s) -> None:
    plan = xk8s.json("plan", "kubernetes", "--json", env=GIVEN)
    chosen = {choice["capability"]: choice["chosen"] for choice in plan["choices"]}
    assert chosen["cri"] == "crio"
    assert "cri: crio (the default)" in xk8s("plan", "kubernetes", env=GIVEN)


def test_the_nodes_say_that_it_is_crio(cluster: Xk8s) -> None:
    said = guest(
        cluster, "vm-001", "kubectl", "get", "nodes",
        "-o=jsonpath={.items[*].status.nodeInfo.containerRuntimeVersion}",
    )  # fmt: skip
    assert len(said.split()) == 2
    assert all(version.startswith("cri-o://1.") for version in said.split())
    status = cluster.json("--name", "crio", "status", "--json")
    assert "crio" in status["overlays"]
    assert "containerd" not in status["overlays"]


def test_no_image_was_copied_at_boot(cluster: Xk8s) -> None:
    listed = json.loads(guest(cluster, "vm-001", "crictl", "images", "--output=json"))
    images = sum(int(image["size"]) for image in listed["images"])
    own = guest(cluster, "vm-001", "sh", "-c",
                "du -ck /var/lib/containers/storage/overlay/*/diff | tail -n 1")  # fmt: skip
    assert images > 10 << 20
    assert int(own.split()[0]) << 10 < images / 10


def test_mconnect_from_outside(cluster: Xk8s) -> None:
    tally = cluster.json(
        "--name", "crio", "mconnect", "--address", "10.0.0.2:5001", "--nconn", "200", "--json",
        timeout=900,
    )  # fmt: skip
    assert tally["failed"] == 0
    assert len(tally["answers"]) == 4


@pytest.mark.skipif(
    bool(DIRECTORY) and not (Path(DIRECTORY) / "crictl").is_file(),
    reason="the directory has no crictl, by which images are loaded",
)
def test_an_image_gets_into_the_running_nodes(cluster: Xk8s, tmp_path: Path) -> None:
    kubectl = kubectl_of(cluster, "crio")
    load_and_run(functools.partial(cluster, "--name", "crio"), kubectl, tmp_path)


def test_containerd_beside_it_is_refused(cluster: Xk8s) -> None:
    error = cluster("plan", "kubernetes", "crio", "containerd", env=GIVEN, code=4)
    assert "both provide 'cri'" in error
