"""What guests must have: looked for with a real shell, in a directory in place of a guest."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from xk8s.cluster.checks.guest_needs import check_guests
from xk8s.cluster.state.record import NodeRecord, Record
from xk8s.context import ExecResult
from xk8s.errors import MachineError, PlanError
from xk8s.overlay import NODE_ROLES, GuestNeeds


class Here:
    """A cluster whose nodes are this machine."""

    def __init__(self) -> None:
        nodes = (("vm-001", "control-plane"), ("vm-201", "router"))
        self.record = Record(
            name="t", phase="starting", overlays=(), digest="d", accel="tcg",
            nodes=tuple(NodeRecord(name=name, role=role, pid=1, started=1) for name, role in nodes),
        )  # fmt: skip
        self.asked: list[str] = []

    def run(self, node: str, argv: Sequence[str], **more: Any) -> ExecResult:
        self.asked.append(node)
        done = subprocess.run(argv, capture_output=True, check=False)
        return ExecResult(exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr)


def test_programs_and_files_that_are_there(tmp_path: Path) -> None:
    here = Here()
    dangling = tmp_path / "resolv.conf"
    dangling.symlink_to("/run/made/later")
    needs = {
        "one": GuestNeeds(programs=("sh", "cat"), files=("/etc/passwd", str(dangling))),
        "none": GuestNeeds(),
    }
    check_guests(here, needs)  # type: ignore[arg-type]
    assert sorted(here.asked) == ["vm-001", "vm-201"]


def test_what_is_missing_is_named_with_who_needs_it() -> None:
    here = Here()
    needs = {
        "kubernetes": GuestNeeds(programs=("sh", "no-such-mount"), roles=NODE_ROLES),
        "cri": GuestNeeds(files=("/no/such file; echo x",), roles=NODE_ROLES),
    }
    with pytest.raises(PlanError) as at:
        check_guests(here, needs)  # type: ignore[arg-type]
    assert str(at.value) == (
        "overlay 'kubernetes' needs program no-such-mount; "
        "overlay 'cri' needs /no/such file; echo x"
    )
    assert at.value.where == "guests vm-001"
    assert here.asked == ["vm-001"], "of a router nobody needs anything"


def test_no_shell_is_an_error_too() -> None:
    here = Here()

    def broken(node: str, argv: Sequence[str], **more: Any) -> ExecResult:
        return ExecResult(exit_code=126, stdout=b"", stderr=b"sh: not found")

    here.run = broken  # type: ignore[method-assign]
    with pytest.raises(MachineError):
        check_guests(here, {"x": GuestNeeds(programs=("sh",))})  # type: ignore[arg-type]


def test_nothing_wanted_asks_nobody() -> None:
    here = Here()
    check_guests(here, {})  # type: ignore[arg-type]
    assert here.asked == []
