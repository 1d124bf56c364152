"""Draining, by the words that kubectl is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from attrs import define, field
from xk8s.context import Context, ExecResult
from xk8s.errors import AbsentError, MachineError
from xk8s.names.core_settings import ClusterSettings
from xk8s.planning import topology
from xk8s.progress import Silent
from xk8s_kubernetes.leave import leave

SETTINGS = ClusterSettings(nodes=3, routers=1)


@define
class Cluster:
    """Answers each command with the next result."""

    answers: list[ExecResult | Exception]
    dead: tuple[str, ...] = ()
    asked: list[tuple[str, ...]] = field(factory=list)
    ctx: Context = Context(
        cluster="test",
        ip_family="ipv4",
        overlays=(),
        networks=topology.networks(SETTINGS),
        nodes=topology.nodes(SETTINGS),
        all_settings={},
    )

    def run(self, node: str, argv: Sequence[str], **_: Any) -> ExecResult:
        if list(argv) == ["true"]:
            if node in self.dead:
                raise AbsentError(f"{node} is dead")
            return result()
        assert node == "vm-001"
        self.asked.append(tuple(argv))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def result(code: int = 0, err: bytes = b"") -> ExecResult:
    return ExecResult(exit_code=code, stdout=b"", stderr=err)


def test_nodes_are_drained_then_deleted() -> None:
    cluster = Cluster([result(), result()])
    leave(cluster, ("vm-003", "vm-201", "vm-002"), Silent())  # type: ignore[arg-type]
    drain, delete = cluster.asked
    assert drain[:5] == (
        "kubectl", "--kubeconfig=/etc/kubernetes/root.conf", "drain", "vm-003", "vm-002"
    )  # fmt: skip
    assert "--ignore-daemonsets" in drain
    assert delete[2:6] == ("delete", "node", "vm-003", "vm-002")


def test_nobody_waits_for_the_pods_of_a_dead_node() -> None:
    """Its kubelet cannot say that they have ended: the drain would never end."""
    cluster = Cluster([result(), result()], dead=("vm-003",))
    leave(cluster, ("vm-003", "vm-002"), Silent())  # type: ignore[arg-type]
    drain, delete = cluster.asked
    assert "vm-003" not in drain
    assert delete[2:6] == ("delete", "node", "vm-003", "vm-002")
    cluster = Cluster([result()], dead=("vm-003",))
    leave(cluster, ("vm-003",), Silent())  # type: ignore[arg-type]
    assert [words[2] for words in cluster.asked] == ["delete"]


def test_a_router_is_no_node_of_kubernetes() -> None:
    cluster = Cluster([])
    leave(cluster, ("vm-201",), Silent())  # type: ignore[arg-type]
    assert cluster.asked == []


@pytest.mark.parametrize(
    "answer", [result(1, b"Cannot evict pod: disruption budget"), TimeoutError("no answer")]
)
def test_a_node_whose_pods_stay_is_not_deleted(answer: ExecResult | Exception) -> None:
    cluster = Cluster([answer])
    with pytest.raises(MachineError, match="drain vm-002") as caught:
        leave(cluster, ("vm-002",), Silent())  # type: ignore[arg-type]
    assert len(cluster.asked) == 1
    if isinstance(answer, ExecResult):
        assert "disruption budget" in caught.value.log
