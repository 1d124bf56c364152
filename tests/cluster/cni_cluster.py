"""A running cluster with one CNI, for the tests of that one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.cluster.kubectl import kubectl_of
from tests.cluster.shared import Shared
from tests.conftest import Xk8s

OVERLAYS = ("kubernetes", "containerd", "coredns")
SMALL = ("--nodes", "2", "--routers", "0")


class Cluster:
    """A running cluster, by its name."""

    def __init__(self, xk8s: Xk8s, name: str) -> None:
        self.xk8s, self.name = xk8s, name

    def __call__(self, *words: str, **more: Any) -> str:
        return self.xk8s("--name", self.name, *words, **more)

    def json(self, *words: str, **more: Any) -> Any:
        return json.loads(self(*words, "--json", **more))

    def guest(self, node: str, *words: str, **more: Any) -> str:
        return self("exec", node, "--", *words, **more)

    def kubectl(self, *words: str, **more: Any) -> str:
        return kubectl_of(self.xk8s, self.name)(*words, **more)


def cluster(xk8s: Xk8s, cni: str) -> Iterator[Cluster]:
    xk8s("artifacts", *OVERLAYS, cni, "--fetch", timeout=3600)
    with Shared(name=cni, up=(*OVERLAYS, cni, *SMALL)).running(xk8s):
        yield Cluster(xk8s, cni)
