"""What needs no VM: plans. Seconds."""

from __future__ import annotations

from xk8s.testing import MakePlan, assert_conforms


def test_it_keeps_the_contract() -> None:
    assert_conforms("my-overlay")


def test_kubelet_is_told_how_many_pods(plan: MakePlan) -> None:
    made = plan("my-overlay", "my-overlay.pods=17")
    files = {entry.path: entry for planned in made.layers for entry in planned.layer.entries}
    assert b"maxPods: 17\n" in files["/etc/kubernetes/kubelet.yaml"].data


def test_each_node_has_its_network(plan: MakePlan) -> None:
    for node in plan("my-overlay", "cluster.nodes=3").nodes[:3]:
        (file,) = [file for file in node.files if file.path.endswith("/05-my-overlay.conflist")]
        assert f"11.0.{node.node.number}.0/24".encode() in file.data
