"""What an apply decides, before any VM is asked: what takes a boot, which units are restarted,
which snapshot comes nearest, what is read again; and what is written down about guests.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from attrs import field, frozen
from xk8s.build.layers.build import layers_dir
from xk8s.build.layers.diff import Difference
from xk8s.build.layers.stack import FilesLevel, Stack
from xk8s.cli.verbs.watch import summary
from xk8s.cluster.change import watched
from xk8s.cluster.change.apply import plan_again
from xk8s.cluster.change.nearest_snapshot import nearest_snapshot
from xk8s.cluster.change.needs_reboot import obstacles, refuse_plan
from xk8s.cluster.change.units import Actions, actions, carry_out
from xk8s.cluster.disk.references import users
from xk8s.cluster.inputs import ClusterInputs
from xk8s.cluster.snapshots import store
from xk8s.cluster.state.booted import BootedCluster, boot_of, read_boot, write_boot
from xk8s.cluster.state.guest_files import (
    GuestFiles,
    NodeFiles,
    guest_files_of,
    read_guest_files,
    remember_files,
    write_guest_files,
)
from xk8s.cluster.state.request_file import write_inputs
from xk8s.context import ExecResult
from xk8s.errors import PlanError, StateError, UsageError
from xk8s.names.request import Request
from xk8s.overlay import File, Layer, Symlink, Take
from xk8s.planning.make_plan import make_plan
from xk8s.planning.plan import NODE_LAYER, Plan
from xk8s.util.log import Record
from xk8s.util.paths import cache_dir, state_dir

pytestmark = pytest.mark.usefixtures("own_places")


def planned(*overlays: str, sets: tuple[str, ...] = (), name: str = "demo") -> Plan:
    return make_plan(Request(overlays=overlays, name=name, sets=sets, environment={}))


KitOf = Callable[[Plan], ClusterInputs]

KUBERNETES = ("kubernetes", "containerd", "coredns")


# --- what takes a boot ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sets", "what"),
    [
        (("cluster.memory=vm-002=999",), ["vm-002 has 999 MiB of memory"]),
        (("cluster.cpus=vm-001=3",), ["vm-001 has 3 CPUs"]),
        (("cluster.nodes=3",), ["more nodes (vm-003)"]),
        (("cluster.nodes=1",), ["fewer nodes (without vm-002)"]),
        (("cluster.mtu=9000",), ["networks changed"]),
        (
            ("cluster.kernel_args=quiet",),
            [
                f"kernel arguments of {node} changed (+quiet)"
                for node in ("vm-001", "vm-002", "vm-201")
            ],
        ),
        (
            ("debian.packages=nmap",),
            ["kernel or initramfs changed", "layer debian-base of overlay debian changed"],
        ),
    ],
    ids=lambda value: value[0],
)
def test_what_takes_a_boot_is_named(kit_of: KitOf, sets: tuple[str, ...], what: list[str]) -> None:
    old, new = kit_of(planned("debian")), kit_of(planned("debian", sets=sets))
    found = obstacles(boot_of(old), guest_files_of(old, "k", {}), new)
    assert set(what) <= set(found), found
    # But for layers that is known before anything is built.
    with pytest.raises(PlanError) as caught:
        refuse_plan(boot_of(old), new.plan)
    assert [
        obstacle
        for obstacle in what
        if obstacle not in str(caught.value) and "layer" not in obstacle
    ] == []


@pytest.mark.parametrize(
    ("overlays", "sets"),
    [
        (KUBERNETES, ("kubernetes.pod_mtu=1400",)),
        (KUBERNETES, ("kubernetes.proxy_mode=ipvs", "coredns.upstream=off")),
        (KUBERNETES, ("kubernetes.host_port=18081", "kubernetes.apiserver_args=--v=4")),
        (("kubernetes", "containerd", "coredns", "externalip"), ()),
    ],
)
def test_all_else_does_not(kit_of: KitOf, overlays: tuple[str, ...], sets: tuple[str, ...]) -> None:
    old, new = kit_of(planned(*KUBERNETES)), kit_of(planned(*overlays, sets=sets))
    assert obstacles(boot_of(old), guest_files_of(old, "k", {}), new) == ()
    refuse_plan(boot_of(old), new.plan)


def test_a_ready_image_that_no_overlay_loads_takes_a_boot(
    kit_of: KitOf, plan_of: Callable[..., Plan]
) -> None:
    def with_image(version: str, *, by_hook: bool) -> ClusterInputs:
        artifact = planned("debian").artifacts[0]
        take = Take(artifact=attrs.evolve(artifact, version=version), member="base.erofs", path="/")
        layer = Layer(name="t-store", image=take, applied_by_hook=by_hook)
        return kit_of(plan_of(layers=lambda ctx: [layer]))

    for by_hook in (False, True):
        old, new = (with_image(version, by_hook=by_hook) for version in "12")
        found = obstacles(boot_of(old), guest_files_of(old, "k", {}), new)
        assert found == (() if by_hook else ("layer t-store of overlay t-one changed",))


# --- which units are restarted ----------------------------------------------------------

UNIT = "/etc/systemd/system/t.service"


def todo(
    plan: Plan, *put: str, gone: tuple[str, ...] = (), before: Mapping[str, str] = {}, **more: Any
) -> Actions:
    change = Difference(put=dict.fromkeys(put, 1), gone=gone, before=before)
    own = {
        entry.path: "644:x"
        for planned_layer in plan.layers
        for entry in planned_layer.layer.entries
    }
    own |= {file.path: "644:x" for file in plan.nodes[0].files}
    own |= dict.fromkeys(put, "644:x")
    new = Stack([FilesLevel(name="all", files={p: i for p, i in own.items() if p not in gone})])
    return actions(plan, plan.nodes[0], change, new, **more)


def unit_file(name: str) -> File:
    return File(path=f"/etc/systemd/system/{name}.service", data=b"")


@pytest.fixture
def plan(plan_of: Callable[..., Plan]) -> Plan:
    layers = (
        Layer(
            name="t-low",
            units=("low.service",),
            entries=(
                File(path="/etc/low.conf", data=b""),
                File(path="/etc/quiet.conf", data=b"", units=()),
                File(path="/etc/special.conf", data=b"", units=("special.service",)),
                File(path=UNIT, data=b""),
                unit_file("low"),
                unit_file("special"),
            ),
        ),
        Layer(
            name="t-high",
            units=("high.service",),
            entries=(File(path="/etc/high.conf", data=b""), unit_file("high")),
        ),
    )
    files = (File(path="/etc/own", data=b""), File(path="/etc/cni", data=b"", units=()))
    return plan_of(layers=lambda ctx: layers, node_files=lambda ctx, node: files)


def test_units_are_those_of_the_file_or_else_of_its_layer(plan: Plan) -> None:
    assert todo(plan, "/etc/low.conf") == Actions(restart=("low.service",))
    assert todo(plan, "/etc/quiet.conf") == Actions()
    assert todo(plan, "/etc/special.conf") == Actions(restart=("special.service",))
    assert todo(plan, "/etc/nobodys") == Actions()
    assert todo(plan, "/etc/high.conf", "/etc/low.conf").restart == ("low.service", "high.service")


def test_what_all_services_get_is_read_again_and_restarts_those_of_overlays(plan: Plan) -> None:
    """Such as the variables of a proxy: a service keeps what it was started with."""
    found = todo(plan, "/etc/systemd/system.conf.d/70-xk8s-proxy.conf")
    assert found == Actions(reload=True, restart=("low.service", "high.service"))


def test_units_that_no_overlay_brings_are_restarted_only_if_they_are_used(
    plan_of: Callable[..., Plan],
) -> None:
    wanted = "/etc/systemd/system/multi-user.target.wants/on.service"
    names = ("sshd.service", "on.service", "mine@1.service")
    layer = Layer(
        name="t-one",
        units=names,
        entries=(
            File(path="/etc/x", data=b""),
            Symlink(path=wanted, target="/usr/lib/systemd/system/on.service"),
            File(path="/usr/lib/systemd/system/mine@.service", data=b""),
        ),
    )
    found = todo(plan_of(layers=lambda ctx: [layer]), "/etc/x")
    assert (found.restart, found.if_used) == (names, ("sshd.service",))


@frozen
class Guest:
    """Answers as a guest whose units have these states (a VM cannot run here)."""

    states: dict[str, str]
    asked: list[list[str]] = field(factory=list)

    def run(self, _node: str, argv: list[str], **_more: object) -> ExecResult:
        self.asked.append(argv)
        said = "".join(f"{self.states.get(unit, 'inactive')}\n" for unit in argv[2:])
        out = said if argv[1] == "is-active" else ""
        return ExecResult(exit_code=0, stdout=out.encode(), stderr=b"")


def test_with_the_answers_of_a_guest_what_does_not_run_is_left_alone() -> None:
    guest = Guest({"runs.service": "active", "died.service": "failed"})
    units = ("died.service", "gone.service", "runs.service")
    work = Actions(restart=(*units, "mine.service"), if_used=units)
    assert carry_out(guest, "vm-001", work) == ("gone.service",)  # type: ignore[arg-type]
    assert guest.asked[0] == ["systemctl", "is-active", *units]
    restarted = ["restart", "mine.service", "runs.service", "died.service"]
    assert guest.asked[1][-4:] == restarted, "in one go, those of higher layers first"
    assert len(guest.asked) == 2
    assert carry_out(guest, "vm-001", Actions(restart=("gone.service",), if_used=("gone.service",)))  # type: ignore[arg-type]
    assert len(guest.asked) == 3, "there was nothing to restart"


def test_what_failed_many_times_is_started_all_the_same(tmp_path: Path) -> None:
    """The command that restarts, with a systemctl that keeps systemd's limit."""
    (tmp_path / "systemctl").write_text(
        '#!/bin/sh\ncd "$(dirname "$0")"\n'
        'case $1 in reset-failed) rm -f limit; exit 1;; *) [ ! -e limit ] && echo "$@" >done;; esac'
    )
    (tmp_path / "systemctl").chmod(0o755)
    (tmp_path / "limit").touch()

    class Shell:
        def run(self, _node: str, argv: list[str], **_more: object) -> ExecResult:
            done = subprocess.run(
                argv, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, check=False
            )
            return ExecResult(exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr)

    carry_out(Shell(), "vm-001", Actions(restart=("a.service", "b.service")))  # type: ignore[arg-type]
    assert (tmp_path / "done").read_text() == "restart b.service a.service\n"


def test_units_of_a_nodes_own_file_are_those_of_its_overlay(plan: Plan) -> None:
    assert todo(plan, "/etc/own").restart == ("low.service", "high.service")
    assert todo(plan, "/etc/cni") == Actions()


def test_a_file_that_is_gone_concerns_the_layer_that_had_it(plan: Plan) -> None:
    gone = todo(plan, gone=("/etc/old",), before={"/etc/old": "t-low"})
    assert gone == Actions(restart=("low.service",))


def test_a_manifest_that_is_gone_concerns_what_applies_manifests() -> None:
    path = "/etc/kubernetes/manifests.d/09-60-mconnect.yaml"
    gone = todo(planned(*KUBERNETES), gone=(path,), before={path: "kubernetes-control-config"})
    assert gone == Actions(restart=("kube-manifests.service",))


def test_other_secrets_and_what_was_left_are_restarted_too(plan: Plan) -> None:
    assert todo(plan, overlays=["t-one"]).restart == ("low.service", "high.service")
    assert todo(plan, pending=["t.service", "gone.service"]).restart == ("t.service",)


def test_a_units_own_file_concerns_that_unit(plan: Plan) -> None:
    assert todo(plan, UNIT) == Actions(reload=True, renew=("t.service",))
    assert todo(plan, f"{UNIT}.d/10-x.conf") == Actions(reload=True, renew=("t.service",))
    wanted = "/etc/systemd/system/multi-user.target.wants/t.service"
    assert todo(plan, UNIT, wanted) == Actions(reload=True, restart=("t.service",))
    assert todo(plan, gone=(UNIT, wanted)) == Actions(reload=True, stop=("t.service",))
    # A drop-in that is gone is a change of the unit.
    assert todo(plan, gone=(f"{UNIT}.d/10-x.conf",)) == Actions(reload=True, renew=("t.service",))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/etc/sysctl.d/50-x.conf", Actions(sysctl=True)),
        ("/usr/lib/sysctl.d/50-x.conf", Actions(sysctl=True)),
        # Some sysctls are there once a module is.
        ("/etc/modules-load.d/x.conf", Actions(modules=True, sysctl=True)),
        ("/usr/lib/tmpfiles.d/x.conf", Actions(tmpfiles=("/usr/lib/tmpfiles.d/x.conf",))),
        ("/etc/systemd/network/20-eth1.network.d/x.conf", Actions(network=True)),
        ("/etc/udev/rules.d/x.rules", Actions(udev=True)),
        ("/etc/profile.d/x.sh", Actions()),
    ],
)
def test_files_of_known_kinds_say_it_themselves(plan: Plan, path: str, expected: Actions) -> None:
    assert todo(plan, path) == expected


def test_overlays_say_what_their_files_concern() -> None:
    plan = planned(*KUBERNETES)

    def restarted(path: str) -> tuple[str, ...]:
        return todo(plan, path).restart

    assert restarted("/etc/cni/net.d/10-xk8s.conflist") == ()
    assert restarted("/etc/kubernetes/proxy.yaml") == ("kube-proxy.service",)
    assert restarted("/etc/kubernetes/kubelet.yaml") == ("kubelet.service",)
    assert restarted("/etc/kubernetes/masquerade.nft") == ("kube-masquerade.service",)
    assert restarted("/etc/kubernetes/manifests.d/01-50-coredns.yaml") == (
        "kube-manifests.service",
    )
    assert restarted("/usr/bin/kubelet") == ("kubelet.service",)
    assert restarted("/usr/bin/kubectl") == ()
    assert restarted("/opt/cni/bin/bridge") == ()
    assert restarted("/etc/containerd/config.toml") == ("containerd.service",)
    assert restarted("/usr/bin/etcd") == ("etcd.service",)


def test_a_file_over_an_overlays_concerns_the_same_units(tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "etc/kubernetes/proxy.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("mode: other\n")
    plan = planned(*KUBERNETES, str(tmp_path / "mine"))
    assert todo(plan, "/etc/kubernetes/proxy.yaml").restart == ("kube-proxy.service",)


# --- the nearest snapshot ---------------------------------------------------------------


def keep(kit_of: KitOf, plan: Plan, *, created: float, label: str = "") -> str:
    """A snapshot of a cluster of that plan, as far as it is told apart by; with the files that a
    restore needs.
    """
    inputs = kit_of(plan)
    boot, key = boot_of(inputs), store.key_of(inputs)
    now = guest_files_of(inputs, key, {})
    label = label or store.auto_label(key)
    where = store.directory(plan.name, label)
    where.mkdir(parents=True)
    write_boot(boot, where)
    write_guest_files(now, where)
    for path in (boot.kernel, boot.initrd, *(disk.path for n in boot.nodes for disk in n.disks)):
        place = cache_dir() / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    files, states, sums = store.describe(where)
    value = store.Snapshot(
        cluster=plan.name, label=label, key=key, machine=store.machine_key(boot.accel),
        overlays=plan.ctx.overlays, nodes=tuple(node.node.name for node in plan.nodes),
        created=created, files=files, states=states, sums=sums, layers=store.layers_of(boot, now),
    )  # fmt: skip
    store.write(value, where)
    return label


def near(kit_of: KitOf, plan: Plan) -> str | None:
    found = nearest_snapshot(kit_of(plan))
    return found.saved.label if found else None


def test_the_snapshot_with_the_least_to_change_is_the_nearest(kit_of: KitOf) -> None:
    keep(
        kit_of,
        planned(*KUBERNETES, sets=("kubernetes.log_level=5", "kubernetes.pod_mtu=1300")),
        created=3,
    )
    closest = keep(kit_of, planned(*KUBERNETES, sets=("kubernetes.pod_mtu=1300",)), created=1)
    found = nearest_snapshot(kit_of(planned(*KUBERNETES)))
    assert found is not None
    assert (found.saved.label, found.differing, found.distance) == (closest, (), 2)


def test_the_plans_own_snapshot_is_not_tried_twice(kit_of: KitOf) -> None:
    # `up` tried to restore it first: what it became did not work.
    keep(kit_of, planned(*KUBERNETES), created=2)
    assert near(kit_of, planned(*KUBERNETES)) is None
    other = keep(kit_of, planned(*KUBERNETES, sets=("kubernetes.pod_mtu=1300",)), created=1)
    assert near(kit_of, planned(*KUBERNETES)) == other


def test_of_two_that_are_as_near_the_later_counts(kit_of: KitOf) -> None:
    keep(kit_of, planned(*KUBERNETES, sets=("kubernetes.pod_mtu=1300",)), created=1)
    later = keep(kit_of, planned(*KUBERNETES, sets=("kubernetes.pod_mtu=1200",)), created=2)
    assert near(kit_of, planned(*KUBERNETES)) == later


def test_a_snapshot_that_cannot_become_it_is_left_out(kit_of: KitOf) -> None:
    keep(kit_of, planned(*KUBERNETES, sets=("cluster.nodes=3",)), created=1)
    keep(kit_of, planned(*KUBERNETES, name="other"), created=1)
    keep(kit_of, planned(*KUBERNETES, sets=("kubernetes.pod_mtu=1300",)), created=1, label="mine")
    assert near(kit_of, planned(*KUBERNETES)) is None, "other nodes, another name, the user's own"
    keep(kit_of, planned(*KUBERNETES, "mconnect"), created=2)
    assert near(kit_of, planned(*KUBERNETES)) is None, "what mconnect did would stay"
    assert near(kit_of, planned(*KUBERNETES, "mconnect", sets=("kubernetes.pod_mtu=1300",)))
    for path in layers_dir(cache_dir()).iterdir():
        path.unlink()
    assert near(kit_of, planned(*KUBERNETES, "mconnect", sets=("kubernetes.pod_mtu=1300",))) is None


def test_the_log_says_why_a_snapshot_is_not_used(kit_of: KitOf, records: list[Record]) -> None:
    more_nodes = keep(kit_of, planned(*KUBERNETES, sets=("cluster.nodes=3",)), created=1)
    more_overlays = keep(kit_of, planned(*KUBERNETES, "mconnect"), created=2)
    assert near(kit_of, planned(*KUBERNETES)) is None
    reasons = {
        record.fields["label"]: str(record.fields["reason"])
        for record in records
        if record.event == "snapshot_unused"
    }
    assert reasons.keys() == {more_nodes, more_overlays}
    assert "fewer nodes" in reasons[more_nodes]
    assert "overlays that are not in the plan: mconnect" in reasons[more_overlays]


# --- what is read again -----------------------------------------------------------------


def put(directory: Path, text: str) -> Path:
    (directory / "etc").mkdir(parents=True, exist_ok=True)
    (directory / "etc" / "x").write_text(text)
    return directory


def text_of(plan: Plan, number: int = -1) -> bytes:
    (entry,) = plan.layers[number].layer.entries
    assert isinstance(entry, File)
    return entry.data


def test_directories_and_settings_are_taken_as_they_are_now(tmp_path: Path) -> None:
    one, two = put(tmp_path / "one", "1"), put(tmp_path / "two", "2")
    write_inputs(planned("debian", str(one), sets=("cluster.nodes=3",)))
    put(one, "1 again")
    plan = plan_again("demo", [str(two)], ("cluster.mtu=9000",))
    assert (text_of(plan, -2), text_of(plan)) == (b"1 again", b"2")
    assert (plan.cluster.nodes, plan.cluster.mtu) == (3, 9000)


def test_of_a_directory_that_is_gone_the_copy_counts(tmp_path: Path) -> None:
    one = put(tmp_path / "one", "1")
    write_inputs(planned("debian", str(one)))
    (one / "etc" / "x").unlink()
    (one / "etc").rmdir()
    one.rmdir()
    assert text_of(plan_again("demo", [], ())) == b"1"
    with pytest.raises(UsageError, match="there is no directory"):
        plan_again("demo", [str(one)], ())


def test_settings_of_the_command_line_are_pinned(tmp_path: Path, monkeypatch: Any) -> None:
    write_inputs(planned("debian", "images", "containerd"))
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "root", "1")
    plan = plan_again("demo", [], ("images.build=x.local/a:1=root",))
    (value,) = [setting.value for setting in plan.settings if setting.key == "images.build"]
    assert value["x.local/a:1"].startswith(f"{tmp_path}/root@sha256:")
    write_inputs(plan)
    assert plan_again("demo", [], ()).digest == plan.digest


# --- what is written down ---------------------------------------------------------------


def test_boot_and_now_are_read_as_they_were_written(kit_of: KitOf) -> None:
    inputs = kit_of(planned(*KUBERNETES))
    boot, now = (
        boot_of(inputs),
        guest_files_of(inputs, "k", {"vm-001": [File(path="/s", data=b"", mode=0o600)]}),
    )
    write_boot(boot, state_dir("demo"))
    write_guest_files(now, state_dir("demo"))
    assert read_boot(state_dir("demo")) == boot
    assert read_guest_files(state_dir("demo")) == now
    for name in ("boot.json", "now.json"):
        path = state_dir("demo") / name
        assert path.stat().st_mode & 0o777 == 0o600
        path.write_text("{}")
    for read in (read_boot, read_guest_files):
        with pytest.raises(StateError):
            read(state_dir("demo"))  # type: ignore[operator]


def test_a_kernel_in_the_cache_is_found_in_another_place_of_it(
    kit_of: KitOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot: BootedCluster = boot_of(kit_of(planned("debian")))
    assert not boot.kernel.is_absolute()
    assert "no longer" in str(boot.missing())
    monkeypatch.setenv("XK8S_CACHE", str(tmp_path / "moved"))
    for path in (boot.kernel, boot.initrd, *(disk.path for n in boot.nodes for disk in n.disks)):
        place = cache_dir() / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    assert boot.missing() is None


def test_new_keys_are_remembered(kit_of: KitOf) -> None:
    inputs = kit_of(planned("debian"))
    write_guest_files(guest_files_of(inputs, "k", {}), state_dir("demo"))
    remember_files("demo", "vm-001", [File(path="/etc/key", data=b"new", mode=0o600)])
    found = read_guest_files(state_dir("demo"))
    assert found.nodes["vm-001"].files["/etc/key"].startswith("600:")
    assert found.key == "k"


def test_images_that_were_applied_are_needed() -> None:
    node = NodeFiles(stack=(("t", "a" * 64), (NODE_LAYER, "")), files={})
    write_guest_files(GuestFiles(key="", overlays={}, nodes={"vm-001": node}), state_dir("demo"))
    assert users(cache_dir())["a" * 64] == ("cluster demo",)


# --- watching ---------------------------------------------------------------------------


def test_sources_are_directories_packages_and_directories_of_settings(tmp_path: Path) -> None:
    own, local = put(tmp_path / "own", ""), put(tmp_path / "local", "")
    (own / "kubelet").write_text("")  # a directory without any program is refused
    plan = planned(*KUBERNETES, str(local), sets=(f"kubernetes.dir={own}",))
    found = {
        source.path: source.deep for source in watched.sources_of(plan, ["kubernetes", str(local)])
    }
    package = Path(__file__).parents[2] / "plugins/kubernetes/src/xk8s_kubernetes"
    assert found == {local: True, own: False, package: True}
    assert len(watched.sources_of(plan, [])) > len(found)


def test_a_change_is_seen_when_writing_is_over(tmp_path: Path) -> None:
    import threading

    put(tmp_path, "1")
    source = [watched.WatchedSource(path=tmp_path)]
    before = watched.marks(source)

    def write() -> None:
        for number in range(4):
            put(tmp_path, f"{number} of them")
            time.sleep(0.08)
        (tmp_path / ".git").mkdir()
        (tmp_path / ".git" / "index").touch()

    thread = threading.Thread(target=write)
    thread.start()
    now, changed = watched.wait_for_change(source, before)
    thread.join()
    assert changed == (str(tmp_path / "etc" / "x"),)
    assert now == watched.marks(source)
    (tmp_path / "etc" / "x").unlink()
    assert watched.wait_for_change(source, now)[1] == changed


def test_a_round_is_one_line() -> None:
    node = {"node": "vm-001", "layers": ["a"], "files": ["/x", "/y"], "restarted": ["a.service"]}
    idle = {"node": "vm-002", "layers": [], "files": [], "restarted": []}
    out = json.dumps({"nodes": [node, idle]})
    assert summary(0, out, "") == "Ready: 2 files in vm-001; restarted a.service"
    assert summary(0, json.dumps({"nodes": [idle]}), "") == "nothing to do"
    error = {"error": {"message": "it failed", "do": "mend it"}}
    assert summary(9, "", "a log\n" + json.dumps(error)) == (
        "failed, exit code 9: it failed (do: mend it)"
    )
    assert summary(1, "", "Traceback") == "failed, exit code 1: Traceback"
