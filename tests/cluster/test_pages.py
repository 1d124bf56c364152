"""The pages' blocks of commands for a cluster that runs, as they stand (see tests/doc_blocks.py).

A page that begins without an `up` of its own speaks of the README's cluster: that is up beforehand.

The file's name puts it behind test_kubernetes.py, which boots that cluster; here it is restored.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from xk8s.util.paths import cache_dir

from tests.cluster.shared import README, UP_SECONDS
from tests.conftest import Xk8s
from tests.doc_blocks import Block, Reader, blocks, documents

pytestmark = pytest.mark.cluster


def commands_of(page: tuple[Block, ...]) -> list[str]:
    """What is run of it on a cluster."""
    found = [line for block in page if block.is_run and block.on_cluster for line in block.commands]
    return [line for line in found if line.startswith("./run xk8s ")]


def starts_another(document: str) -> bool:
    """Whether it starts another cluster by the name of the README's: after some of these there is
    no snapshot of that one any more.
    """
    ups = [line for line in commands_of(blocks(document)) if line.startswith("./run xk8s up ")]
    return any(" ".join(README.up) not in line and "--name" not in line for line in ups)


ON_CLUSTER = sorted(
    (document for document in documents() if commands_of(blocks(document))), key=starts_another
)


def speaks_of_a_cluster(page: tuple[Block, ...]) -> bool:
    """Whether something is asked of a cluster before the page starts one."""
    verbs = [line.split()[2] for line in commands_of(page)]
    return next(verb for verb in verbs if verb != "plan") != "up"


@pytest.mark.parametrize("document", ON_CLUSTER)
def test_commands_of_a_page_work(xk8s: Xk8s, document: str, tmp_path: Path) -> None:
    own = {
        **{key: value for key, value in xk8s.environment.items() if key.startswith("XK8S_")},
        # The user's own cache: only what is in the home directory must not be touched.
        "XK8S_CACHE": os.environ.get("XK8S_CACHE") or str(cache_dir()),
        "HOME": str(tmp_path),
        "KUBECONFIG": "",
        "XK8S_NAME": "",
    }
    reader = Reader(directory=tmp_path / "clone", environment=own)
    reader.prepare()
    page = blocks(document)
    try:
        if speaks_of_a_cluster(page):
            xk8s("up", *README.up, timeout=UP_SECONDS)
        for block in page:
            if block.on_cluster or block.file:
                reader.follow(block)
    finally:
        xk8s("down", "--all", timeout=120)
    assert xk8s.left() == []
