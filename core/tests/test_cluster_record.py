"""Which process of a VM a cluster's record means."""

from __future__ import annotations

import json

import pytest
from attrs import evolve
from xk8s.cluster.state.record import RECORD, NodeRecord, Record, read_record, write_record
from xk8s.util.paths import state_dir

pytestmark = pytest.mark.usefixtures("own_places")


def node(name: str, generation: int | None = None) -> NodeRecord:
    return NodeRecord(name=name, role="worker", pid=1, started=2, generation=generation)


RECORDED = Record(name="demo", phase="running", overlays=(), digest="d", accel="tcg")


def sockets(record: Record) -> list[str]:
    return [record.sockets(recorded.name).qmp.name for recorded in record.nodes]


def test_vms_of_which_some_moved_are_each_reached_in_their_own_process() -> None:
    record = evolve(RECORDED, generation=1, nodes=(node("vm-001", 3), node("vm-002", 1)))
    assert sockets(record) == ["vm-001.3.qmp", "vm-002.1.qmp"]
    assert record.latest == 3
    # One that was added later is the first of its kind.
    record = evolve(record, nodes=(*record.nodes, node("vm-003", 0)))
    assert sockets(record)[2] == "vm-003.qmp"
    write_record(record)
    assert read_record("demo") == record


def test_a_record_of_an_earlier_version_is_read() -> None:
    write_record(evolve(RECORDED, generation=2, nodes=(node("vm-001"),)))
    path = state_dir("demo") / RECORD
    data = json.loads(path.read_text())
    del data["nodes"][0]["generation"]
    path.write_text(json.dumps(data))
    record = read_record("demo")
    assert record is not None
    assert sockets(record) == ["vm-001.2.qmp"]
    assert record.latest == 2
