"""New keys for a running cluster, as far as no VM is needed: what is kept where, what goes into a
node and how, which units are restarted, which snapshots go.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from xk8s.cluster.change import rotate_keys
from xk8s.cluster.change.push import STAGE, push
from xk8s.cluster.change.rotate_keys import NEW, OLD, switch, units_with_keys
from xk8s.cluster.inputs import ClusterInputs
from xk8s.cluster.snapshots import store
from xk8s.cluster.state.secrets import PKI, flat, secrets
from xk8s.context import ExecResult
from xk8s.errors import MachineError, StateError
from xk8s.names.request import Request
from xk8s.overlay import File
from xk8s.pki import Keys
from xk8s.planning.make_plan import make_plan
from xk8s.planning.plan import Plan
from xk8s.progress import Silent

pytestmark = pytest.mark.usefixtures("own_places")


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(Request(overlays=("kubernetes", "containerd"), environment={}))


# --- where the keys are -----------------------------------------------------------------


def content(state: Path) -> dict[str, str]:
    return {path.name: (path / "ca.key").read_text() for path in state.glob("pki*")}


def put(state: Path, **texts: str) -> None:
    for name, text in texts.items():
        directory = state / name.replace("_", ".")
        directory.mkdir(parents=True)
        (directory / "ca.key").write_text(text)


def test_the_old_keys_are_kept_aside(tmp_path: Path) -> None:
    put(tmp_path, pki="old", pki_new="new")
    switch(tmp_path)
    assert content(tmp_path) == {PKI: "new", OLD: "old"}
    switch(tmp_path)
    assert content(tmp_path) == {PKI: "new", OLD: "old"}


def test_a_switch_that_was_killed_between_its_steps_is_finished(tmp_path: Path) -> None:
    put(tmp_path, pki_old="old", pki_new="new")
    rotate_keys._mend(tmp_path)
    assert content(tmp_path) == {PKI: "new", OLD: "old"}


def test_keys_that_are_there_are_never_touched_by_mending(tmp_path: Path) -> None:
    put(tmp_path, pki="old", pki_new="new")
    rotate_keys._mend(tmp_path)
    assert content(tmp_path) == {PKI: "old", NEW: "new"}


def test_a_cluster_that_is_not_there_is_an_error_and_leaves_no_keys(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="there is no cluster"):
        rotate_keys.rotate_keys("nobody", Silent())
    assert not list((tmp_path / "own").rglob("pki*"))


# --- what goes into a node --------------------------------------------------------------


class Guest:
    """A node whose root is a directory of this machine; its tar is the real one."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(
        self, node: str, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60
    ) -> ExecResult:
        places = {"/": str(self.root), STAGE: f"{self.root}{STAGE}"}
        words = [places.get(word, word) for word in argv]
        done = subprocess.run(words, input=stdin, capture_output=True, check=False)
        return ExecResult(exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr)


def test_files_arrive_whole_with_their_modes(tmp_path: Path) -> None:
    place = tmp_path / "etc" / "pki"
    place.mkdir(parents=True)
    (place / "ca.key").write_text("old")
    (place / "ca.key").chmod(0o644)
    reader = (place / "ca.key").open()
    files = [
        File(path="/etc/pki/ca.key", data=b"new", mode=0o600),
        File(path="/etc/pki/ca.crt", data=b"cert", mode=0o644),
    ]
    push(Guest(tmp_path), "vm-001", files)  # type: ignore[arg-type]
    assert {path.name: path.stat().st_mode & 0o777 for path in place.iterdir()} == {
        "ca.key": 0o600,
        "ca.crt": 0o644,
    }
    assert (place / "ca.key").read_text() == "new"
    with reader:
        assert reader.read() == "old", "who has it open goes on reading what he opened"


def test_a_node_that_cannot_take_them_is_named(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("no directory")
    with pytest.raises(MachineError, match="vm-007: 1 files could not be written") as caught:
        push(Guest(tmp_path), "vm-007", [File(path="/etc/x", data=b"")])  # type: ignore[arg-type]
    assert "etc" in caught.value.log


def test_every_node_gets_what_it_has_with_other_keys(plan: Plan, tmp_path: Path) -> None:
    for planned in plan.nodes:
        old, new = (
            flat(secrets(plan, planned.node, Keys(tmp_path / name))) for name in ("old", "new")
        )
        assert [(file.path, file.mode) for file in old] == [(file.path, file.mode) for file in new]
        assert not {file.data for file in old} & {file.data for file in new}


# --- what is restarted ------------------------------------------------------------------


def test_units_are_those_of_the_overlays_with_keys_on_this_node(plan: Plan, tmp_path: Path) -> None:
    keys = Keys(tmp_path / "pki")
    found = {
        planned.node.name: set(units_with_keys(plan, planned, secrets(plan, planned.node, keys)))
        for planned in plan.nodes
    }
    node = {"kubelet.service", "kube-proxy.service"}
    control = {"etcd.service", "kube-apiserver.service", "kube-controller-manager.service",
               "kube-scheduler.service"}  # fmt: skip
    assert found == {"vm-001": node | control, "vm-002": node, "vm-201": set()}


def test_every_overlay_with_keys_says_which_units_use_them(tmp_path: Path) -> None:
    plan = make_plan(
        Request(overlays=("kubernetes", "containerd", "coredns", "externalip"), environment={})
    )
    keys = Keys(tmp_path / "pki")
    with_keys = set()
    for planned in plan.nodes:
        for overlay, files in secrets(plan, planned.node, keys).items():
            with_keys.add(overlay)
            # A key that nothing reads again is an old one for ever: where it is read for each use,
            # its file says that no unit has to.
            units = units_with_keys(plan, planned, {overlay: files})
            read_each_time = bool(files) and all(file.units == () for file in files)
            assert units or read_each_time, (overlay, planned.node.name)
    assert {"etcd", "kubernetes", "externalip"} <= with_keys


def test_units_are_there_in_a_layer_of_their_overlay(plan: Plan) -> None:
    for planned in plan.layers:
        own = {
            entry.path.rpartition("/")[2]
            for other in plan.layers
            if other.overlay == planned.overlay
            for entry in other.layer.entries
            if entry.path.startswith(("/etc/systemd/system/", "/usr/lib/systemd/system/"))
        }
        assert set(planned.layer.units) <= own, planned.layer.name


def test_units_are_no_part_of_a_layers_digest(
    plan: Plan, kit_of: Callable[[Plan], ClusterInputs]
) -> None:
    import attrs
    from xk8s.build.layers.build import layer_key
    from xk8s.planning.plan import layer_digest

    layer = next(planned.layer for planned in plan.layers if planned.layer.units)
    resolved = kit_of(plan).resolved
    without = attrs.evolve(layer, units=())
    assert layer_digest(without) == layer_digest(layer)
    assert layer_key(without, resolved) == layer_key(layer, resolved)


# --- what is left of the old keys -------------------------------------------------------


def snapshot(cluster: str, label: str, keys: Path) -> None:
    """A snapshot as `xk8s.cluster.snapshots.save` leaves it, with little in it."""
    where = store.directory(cluster, label)
    where.mkdir(parents=True)
    shutil.copytree(keys, where / PKI)
    value = store.Snapshot(
        cluster=cluster, label=label, key="k", overlays=(), nodes=(), created=1.0, files={},
        states={},
    )  # fmt: skip
    store.write(value, where)


def test_snapshots_with_the_old_keys_are_found_and_told_apart(tmp_path: Path) -> None:
    for name in ("old", "other"):
        Keys(tmp_path / name).ca("ca")
    snapshot("demo", "auto-1", tmp_path / "old")
    snapshot("demo", "auto-2", tmp_path / "other")
    snapshot("demo", "mine", tmp_path / "old")
    snapshot("demo", "hers", tmp_path / "other")
    snapshot("else", "auto-1", tmp_path / "other")
    auto, own = rotate_keys._snapshots_with(tmp_path / "old", "demo")
    assert [saved.label for saved in auto] == ["auto-1"]
    assert [saved.label for saved in own] == ["mine"]


def test_units_that_a_file_names_itself_are_restarted(plan: Plan, tmp_path: Path) -> None:
    planned = plan.nodes[0]
    file = File(path="/etc/own/key", data=b"k", mode=0o600, units=("own.service",))
    own = units_with_keys(plan, planned, {"etcd": [file]})
    assert own == ("etcd.service", "own.service")
