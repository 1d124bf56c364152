"""Requests to scale that cannot be met change nothing; scaling itself is tested on real VMs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from xk8s.cli import app
from xk8s.cluster.state.record import NodeRecord, Record, read_record, write_record
from xk8s.cluster.state.request_file import write_inputs
from xk8s.errors import StateError, UsageError
from xk8s.planning.plan import Plan
from xk8s.util.paths import state_dir

pytestmark = pytest.mark.usefixtures("own_places")


@pytest.fixture
def record(plan_of: Callable[..., Plan]) -> Record:
    """A cluster ``t`` of one node, on record as running; no such process is there."""
    plan = plan_of()
    state_dir("t").mkdir(parents=True, mode=0o700)
    write_inputs(plan)
    node = NodeRecord(name="vm-001", role="control-plane", pid=1, started=1)
    record = Record(
        name="t", phase="running", overlays=plan.ctx.overlays, digest=plan.digest, accel="tcg",
        nodes=(node,),
    )  # fmt: skip
    write_record(record)
    return record


def scale(*words: str) -> int:
    return app.run(["--name", "t", "--quiet", "scale", *words])


def test_without_a_count_it_asks_for_one(capfd: pytest.CaptureFixture[str]) -> None:
    assert scale() == UsageError.exit_code
    assert "for example: xk8s scale --nodes 4" in capfd.readouterr().err


def test_without_a_cluster(capfd: pytest.CaptureFixture[str]) -> None:
    assert scale("--nodes", "2") == StateError.exit_code
    assert "there is no cluster 't'" in capfd.readouterr().err


def test_a_cluster_whose_vm_died_is_left_as_it_was(
    record: Record, capfd: pytest.CaptureFixture[str]
) -> None:
    assert scale("--nodes", "2") == StateError.exit_code
    assert "cluster 't' has ended: none of its VMs runs any more" in capfd.readouterr().err
    assert read_record("t") == record
