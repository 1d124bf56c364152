"""A command is killed while it writes down what a cluster was asked for, after each step of it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from xk8s.cluster.change.apply import _Apply
from xk8s.cluster.handle import Cluster
from xk8s.cluster.inputs import ClusterInputs
from xk8s.cluster.prepare import Clock
from xk8s.cluster.snapshots import store
from xk8s.cluster.state.booted import boot_of, write_boot
from xk8s.cluster.state.guest_files import guest_files_of, read_guest_files, write_guest_files
from xk8s.cluster.state.record import Record, read_record, write_record
from xk8s.cluster.state.request_file import read_request, write_counts, write_inputs
from xk8s.names.request import Request
from xk8s.overlay import File, Layer
from xk8s.planning.make_plan import make_plan
from xk8s.planning.plan import Plan
from xk8s.progress import Silent
from xk8s.util import paths
from xk8s.util.paths import state_dir

pytestmark = pytest.mark.usefixtures("own_places")


def killed(work: Callable[[], object], last: int) -> bool:
    """Whether ``work``, in a process of its own, was killed after that change of a file."""
    if (pid := os.fork()) == 0:
        done = 0

        def counted(change: Callable[..., Any]) -> Callable[..., Any]:
            def counting(*args: Any, **more: Any) -> Any:
                nonlocal done
                value = change(*args, **more)
                done += 1
                if done == last:
                    os.kill(os.getpid(), signal.SIGKILL)
                return value

            return counting

        paths.write_atomic = counted(paths.write_atomic)  # type: ignore[attr-defined]
        for name in ("mkdir", "replace", "rename", "unlink", "write_bytes", "symlink_to"):
            setattr(Path, name, counted(getattr(Path, name)))
        shutil.rmtree = counted(shutil.rmtree)  # type: ignore[assignment]
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


def test_the_request_and_its_copies_are_always_those_of_one_plan(tmp_path: Path) -> None:
    """Half of a directory would be a plan, too: its rest would be taken from the guests."""
    work = tmp_path / "work"
    work.mkdir()

    def planned() -> Plan:
        return make_plan(Request(overlays=("debian", str(work)), environment={}, stored={}))

    (work / "one").write_text("1")
    first = planned()
    for number in range(20):
        (work / f"more-{number}").write_text("x")
    second = planned()
    assert first.digest != second.digest
    seen, step = set(), 0
    write_inputs(first)
    while killed(lambda: write_inputs(second), step := step + 1):
        digest = make_plan(read_request(first.name)).digest
        seen.add(digest)
        if digest == second.digest:
            write_inputs(first)
    assert seen == {first.digest, second.digest}
    assert make_plan(read_request(first.name)).digest == second.digest
    # What killed ones left is removed by the next one that comes to its end.
    assert len(list((state_dir(first.name) / "local").iterdir())) == 1


def test_guests_are_never_said_to_have_what_the_request_does_not(
    plan_of: Callable[..., Plan], kit_of: Callable[[Plan], ClusterInputs]
) -> None:
    def changed(family: str) -> ClusterInputs:
        """Nothing of it has to be brought to a guest: there are no testers."""
        layer = Layer(
            name="t-one",
            roles=frozenset({"tester"}),
            entries=(File(path="/etc/x", data=family.encode()),),
        )
        sets = (f"cluster.ip_family={family}",)
        return kit_of(plan_of("t", sets=sets, layers=lambda ctx: (layer,)))

    inputs = {family: changed(family) for family in ("ipv4", "dual")}
    key = {text: store.key_of(own) for text, own in inputs.items()}
    assert key["ipv4"] != key["dual"]

    def written() -> Cluster:
        plan = inputs["ipv4"].plan
        state_dir("t").mkdir(parents=True, mode=0o700, exist_ok=True)
        write_inputs(plan)
        write_boot(boot_of(inputs["ipv4"]), state_dir("t"))
        write_guest_files(guest_files_of(inputs["ipv4"], key["ipv4"], {}), state_dir("t"))
        record = Record(
            name="t", phase="running", overlays=plan.ctx.overlays, digest=plan.digest, accel="tcg"
        )
        write_record(record)
        return Cluster(record, plan)

    seen, step, more = set(), 0, True
    while more:
        cluster, step = written(), step + 1
        more = killed(_Apply(cluster, inputs["dual"], Clock(Silent())).run, step)
        stored, record = read_request("t").stored, read_record("t")
        assert stored is not None
        assert record is not None
        asked = str(stored["cluster"]["ip_family"])
        guests = next(text for text in inputs if key[text] == read_guest_files(state_dir("t")).key)
        told = next(text for text in inputs if inputs[text].plan.digest == record.digest)
        seen.add((asked, guests, told))
    # The request first, the record last; what is repeated then changes nothing that is right.
    old, new = inputs
    assert seen == {(old, old, old), (new, old, old), (new, new, old), (new, new, new)}


def test_other_counts_leave_the_rest_of_the_request(plan_of: Callable[..., Plan]) -> None:
    plan = plan_of("t")
    write_inputs(plan)
    before = read_request("t")
    write_counts("t", {"nodes": 3})
    after = read_request("t")
    assert before.stored is not None
    assert after.stored == {
        **before.stored, "cluster": {**before.stored["cluster"], "nodes": 3}
    }  # fmt: skip
    assert (after.overlays, after.kept) == (before.overlays, before.kept)
