"""A command that works on VMs is killed after each of its steps: the next one lets all VMs run.

Real QEMUs, each with a guest of 40 bytes that answers on its console as long as its VM runs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from xk8s.cli import app
from xk8s.cli.verbs.status import problem
from xk8s.cluster import resume as resume_module
from xk8s.cluster.change import power_on_nodes
from xk8s.cluster.change import scale as scale_module
from xk8s.cluster.handle import Cluster, open_cluster
from xk8s.cluster.inputs import ClusterInputs
from xk8s.cluster.prepare import Clock
from xk8s.cluster.resume import vm_states
from xk8s.cluster.snapshots import handover, save, share_ram
from xk8s.cluster.state.booted import BootedCluster, BootedNode, planned_boot, read_boot, write_boot
from xk8s.cluster.state.guest_files import guest_files_of, read_guest_files, write_guest_files
from xk8s.cluster.state.node_paths import image_path, moved_ram_path, ram_path, volume_path
from xk8s.cluster.state.record import Record, Unfinished, locked, read_record, write_record
from xk8s.cluster.state.request_file import read_request, write_inputs
from xk8s.cluster.vms import launch
from xk8s.cluster.vms.ram import memory_of, ram_directory
from xk8s.cluster.vms.volumes import make_volumes
from xk8s.errors import HostError, MachineError
from xk8s.machine.net.privileges import check_tun
from xk8s.machine.qemu import migrate, process
from xk8s.machine.qemu.accelerator import decide, qemu_version
from xk8s.machine.qemu.command import MachineSpec
from xk8s.machine.qemu.qmp import Qmp
from xk8s.overlay import Forward, Volume
from xk8s.planning.plan import Plan
from xk8s.progress import Silent
from xk8s.util import paths
from xk8s.util.paths import cache_dir, runtime_dir, state_dir
from xk8s.util.processes import Process, end, leftovers


def lacking() -> str | None:
    try:
        check_tun()
        version = qemu_version()
    except HostError as error:
        return str(error)
    return None if version >= migrate.LEAST_QEMU else "migration to a file takes QEMU 8.2"


pytestmark = [
    pytest.mark.skipif(lacking() is not None, reason=str(lacking())),
    pytest.mark.usefixtures("own_places"),
]
NAME = "t"
GUESTS = ("vm-001", "vm-002")
VOLUMES = (Volume(name="data", path="/data", size=32),)
PlanOf = Callable[..., Plan]
KitOf = Callable[[Plan], ClusterInputs]


@pytest.fixture
def places(own_places: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Short paths for sockets, and RAM on a tmpfs. No process of the cluster outlives the test."""
    with (
        tempfile.TemporaryDirectory(prefix="xk8s-") as runtime,
        tempfile.TemporaryDirectory(prefix="xk8s-", dir="/dev/shm") as memory,
    ):
        monkeypatch.setenv("XK8S_RUNTIME", runtime)
        monkeypatch.setenv("XK8S_MEMORY", memory)
        try:
            yield
        finally:
            end(leftovers(runtime_dir(NAME)), grace=0)


def tiny(plan: Plan, kernel: Path) -> BootedCluster:
    """The VMs of a plan, of 32 MiB and with that guest: nothing is plugged in, nothing mounted."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    shutil.copy(kernel, cache_dir() / "kernel")
    accel = decide("tcg")
    boot = planned_boot(plan, accel, {})

    def small(booted: BootedNode) -> BootedNode:
        nics = tuple(nic for nic in booted.node.nics if nic.network == 0)
        node = attrs.evolve(booted.node, memory=32, cpus=1, nics=nics)
        forward = Forward(name="api", guest_port=6443)
        return attrs.evolve(
            booted, node=node, disks=(), forwards=(forward,), volumes=VOLUMES, qemu_args=()
        )

    own = Path("kernel")
    nodes = tuple(small(booted) for booted in boot.nodes)
    networks = tuple(network for network in boot.networks if network.index == 0)
    return attrs.evolve(boot, kernel=own, initrd=own, networks=networks, routes=(), nodes=nodes)


@pytest.fixture
def start(
    places: None, plan_of: PlanOf, kit_of: KitOf, spec: MachineSpec
) -> Callable[..., Cluster]:
    """Start a cluster ``t`` of two VMs: all that is written down of it is there."""

    def start_cluster(plan: Plan | None = None) -> Cluster:
        plan = plan or plan_of(NAME, nodes=2)
        inputs = kit_of(plan)
        boot = tiny(plan, spec.kernel)
        for directory in (runtime_dir(NAME), state_dir(NAME)):
            directory.mkdir(parents=True, mode=0o700)
        write_inputs(plan)
        write_boot(boot, state_dir(NAME))
        make_volumes(boot)
        write_guest_files(guest_files_of(inputs, "k", {}), state_dir(NAME))
        ram_directory(NAME)
        nodes = launch.start(boot, launch.networks(boot), memory_of(boot, "shared"))
        record = Record(
            name=NAME, phase="running", overlays=plan.ctx.overlays, digest=plan.digest,
            accel="tcg", memory="shared", nodes=nodes,
        )  # fmt: skip
        write_record(record)
        cluster = Cluster(record, plan)
        for node in nodes:
            booted(cluster, node.name)
        return cluster

    return start_cluster


def booted(cluster: Cluster, node: str) -> None:
    deadline = time.monotonic() + 60
    while "hello" not in cluster.console_log(node).read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def echo(cluster: Cluster, node: str, text: bytes = b"x") -> None:
    """It waits for the guest's answer: one whose VM stands still fails it."""
    with socket.socket(socket.AF_UNIX) as console:
        console.settimeout(30)
        console.connect(str(cluster.sockets(node).console))
        console.sendall(text)
        seen = b""
        while not seen.endswith(text):
            more = console.recv(100)
            assert more, "the console was closed"
            seen += more


def qemus() -> set[Process]:
    found = leftovers(runtime_dir(NAME))
    return {process for process in found if " -pidfile " in process.command}


def whole(*names: str) -> Cluster:
    """The cluster as the next command sees it: these VMs run on (they did not boot again), each can
    be reached, and no other QEMU is there.
    """
    cluster = open_cluster(NAME)
    assert cluster.record.unfinished is None
    assert [node.name for node in cluster.record.nodes] == list(names)
    assert vm_states(cluster.record) == dict.fromkeys(names, "running")
    assert qemus() == {node.process for node in cluster.record.nodes}
    for node in cluster.record.nodes:
        echo(cluster, node.name)
        assert cluster.console_log(node.name).read_text().count("hello") == 1
        with socket.create_connection(cluster.forward("api")):
            pass
    state = state_dir(NAME)
    assert [planned.node.name for planned in read_boot(state).nodes] == list(names)
    assert [*read_guest_files(state).nodes] == list(names)
    assert not any(moved_ram_path(NAME, name).exists() for name in names)
    volumes = [path.name for path in sorted((state / "volumes").iterdir())]
    assert volumes == [volume_path(NAME, name, "data").name for name in names]
    return cluster


class Steps:
    """Counts what changes the world, and kills this process after the step ``last``."""

    def __init__(self, last: int) -> None:
        self.last, self.done = last, 0
        self._lock = threading.Lock()

    def count(self, work: Callable[..., Any], *names: str) -> Callable[..., Any]:
        def counted(*args: Any, **more: Any) -> Any:
            value = work(*args, **more)
            if not names or args[1] in names:
                with self._lock:
                    self.done += 1
                    if self.done == self.last:
                        os.kill(os.getpid(), signal.SIGKILL)
            return value

        return counted

    def everywhere(self) -> None:
        """All that these commands do to processes and files."""
        paths.write_atomic = self.count(paths.write_atomic)  # type: ignore[attr-defined]
        process.spawn = self.count(process.spawn)
        commands = ("stop", "cont", "migrate", "migrate-incoming")
        Qmp.execute = self.count(Qmp.execute, *commands)  # type: ignore[method-assign]
        Qmp.monitor = self.count(Qmp.monitor)  # type: ignore[method-assign]
        Path.rename = self.count(Path.rename)  # type: ignore[method-assign]
        for module in (handover, share_ram, resume_module, scale_module):
            module.end = self.count(end)  # type: ignore[attr-defined]


def killed(work: Callable[[], object], last: int) -> bool:
    """Whether ``work``, in a process of its own, was killed after that step; False: it ended."""
    if (pid := os.fork()) == 0:
        code = 1
        with contextlib.suppress(BaseException):
            try:
                Steps(last).everywhere()
                with locked(NAME):
                    work()
                code = 0
            except BaseException:
                traceback.print_exc()
                raise
        os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


def _hand_over(cluster: Cluster, work: Path) -> object:
    work.mkdir()
    return handover.hand_over(cluster, read_boot(state_dir(NAME)), work)


def _share(cluster: Cluster, _: Path) -> object:
    return share_ram.share(cluster, read_boot(state_dir(NAME)), Silent())


def _pause(cluster: Cluster, work: Path) -> object:
    work.mkdir()
    return save._stand_still(cluster, work)


@pytest.mark.parametrize("work", [_hand_over, _share, _pause], ids=lambda work: work.__name__[1:])
def test_killed_after_any_step_all_vms_run_on(
    start: Callable[..., Cluster], tmp_path: Path, work: Callable[[Cluster, Path], object]
) -> None:
    cluster = start()
    step, more = 0, True
    while more:
        step += 1
        if work is _share:  # what was restored has private RAM
            write_record(attrs.evolve(cluster.record, memory="private"))
        elif cluster.record.memory == "private":
            assert app.run(["--name", NAME, "--quiet", "down"]) == 0
            assert qemus() == set()
            cluster = start()
        cluster = Cluster(open_cluster(NAME).record, cluster.plan)
        more = killed(lambda: work(cluster, tmp_path / str(step)), step)  # noqa: B023
        found = read_record(NAME)
        assert found is not None
        if found.unfinished is not None:
            status = Cluster(open_cluster(NAME, resume=False).record, cluster.plan).status()
            assert status["phase"] == "interrupted"
            assert "continues it" in str(getattr(problem(NAME, status["phase"]), "hint", ""))
        cluster = Cluster(whole(*GUESTS).record, cluster.plan)
        if cluster.record.memory == "shared":
            # The file of each VM is the one that its process has.
            for node in cluster.record.nodes:
                maps = Path(f"/proc/{node.pid}/maps").read_text()
                assert f"{ram_path(NAME, node.name)}\n" in maps
    assert step > 5


def test_what_resumes_may_be_killed_too(start: Callable[..., Cluster], tmp_path: Path) -> None:
    def hand_over_is_killed(first: int, step: int) -> bool:
        cluster = start()
        return killed(lambda: _hand_over(cluster, tmp_path / f"{first}-{step}"), first)

    first = 6
    while hand_over_is_killed(first, 1):
        step = 1
        while killed(lambda: open_cluster(NAME), step):
            whole(*GUESTS)
            app.run(["--name", NAME, "--quiet", "down"])
            step += 1
            assert hand_over_is_killed(first, step)
        whole(*GUESTS)
        app.run(["--name", NAME, "--quiet", "down"])
        first += 3
    assert first > 9


# --- adding and removing VMs ------------------------------------------------------------


def power_on_tiny(monkeypatch: pytest.MonkeyPatch, kernel: Path) -> None:
    """Let nodes that are switched on be as those of `tiny`. Their guests have no agent: they are
    there when they say so on their console.
    """

    def wait_booted(cluster: Cluster, nodes: Iterable[str], _: object) -> None:
        for name in nodes:
            booted(cluster, name)

    monkeypatch.setattr(power_on_nodes, "boot_of", lambda inputs: tiny(inputs.plan, kernel))
    monkeypatch.setattr(power_on_nodes, "boot_ids", lambda *_: {})
    monkeypatch.setattr(power_on_nodes.launch, "wait_booted", wait_booted)


@pytest.fixture
def scaling(
    spec: MachineSpec, kit_of: KitOf, plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Cluster, int], None]:
    """Bring a cluster to so many VMs, up to the moment at which the others are told."""
    power_on_tiny(monkeypatch, spec.kernel)
    monkeypatch.setattr(scale_module, "refuse", lambda *_: None)

    def scale(cluster: Cluster, count: int) -> None:
        inputs = kit_of(plan_of(NAME, nodes=count))
        work = scale_module._Scale(cluster, inputs, Clock(Silent()), {"nodes": count})
        if work.removed:
            work.leave()
        if work.added:
            work.join()

    return scale


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)], ids=["join", "leave"])
def test_a_killed_scale_is_finished_or_taken_back_mocked(
    start: Callable[..., Cluster],
    scaling: Callable[[Cluster, int], None],
    plan_of: PlanOf,
    before: int,
    after: int,
) -> None:
    def now() -> int:
        """What the next command finds: a number of VMs that all that is written down agrees on."""
        names = [node.name for node in open_cluster(NAME).record.nodes]
        whole(*names)
        stored = read_request(NAME).stored
        assert stored is not None
        assert stored["cluster"]["nodes"] == len(names)
        images = {path.stem for path in image_path(NAME, "x").parent.glob("*.erofs")}
        assert images <= {*names}
        return len(names)

    plans = {count: plan_of(NAME, nodes=count) for count in (1, 2)}
    start(plans[before])
    step, more, seen = 0, True, set()
    while more:
        step += 1
        cluster = Cluster(open_cluster(NAME).record, plans[before])
        more = killed(lambda: scaling(cluster, after), step)  # noqa: B023
        seen.add(count := now())
        with locked(NAME):
            if count == before:  # it can be repeated
                scaling(Cluster(open_cluster(NAME).record, plans[before]), after)
                assert now() == after
            # and undone.
            scaling(Cluster(open_cluster(NAME).record, plans[after]), before)
        assert now() == before
        if after < before:  # what has just joined has not printed enough to be waited for
            booted(open_cluster(NAME), GUESTS[-1])
    assert step > 5
    assert seen == {before, after}


# --- what is reported -------------------------------------------------------------------


def test_a_vm_that_stands_still_or_is_gone_is_not_called_running(
    start: Callable[..., Cluster],
) -> None:
    cluster = start()
    resume_module.check_running(cluster.record)
    with Qmp(cluster.sockets("vm-002").qmp, "vm-002") as qmp:
        qmp.execute("stop")
    with pytest.raises(MachineError, match="vm-002: the VM does not run: paused"):
        resume_module.check_running(cluster.record)
    states = {node["name"]: node["state"] for node in cluster.status()["nodes"]}
    assert states == {"vm-001": "running", "vm-002": "paused"}
    end([cluster.record.node("vm-001").process], grace=0)
    with pytest.raises(MachineError, match="vm-001: the VM does not run: dead"):
        resume_module.check_running(cluster.record)


def test_a_hand_over_that_fails_after_the_old_ones_ended_is_finished(
    start: Callable[..., Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = start()
    (tmp_path / "work").mkdir()

    def failing(record: Record) -> None:
        raise MachineError("a new process has gone")

    with monkeypatch.context() as patch, locked(NAME):
        patch.setattr(handover, "check_running", failing)
        with pytest.raises(MachineError, match="has gone"):
            handover.hand_over(cluster, read_boot(state_dir(NAME)), tmp_path / "work")
    assert whole(*GUESTS).record.memory == "private"


def test_of_a_hand_over_that_lost_processes_each_vm_runs_where_it_can(
    start: Callable[..., Cluster], tmp_path: Path
) -> None:
    """All stood still at the same moment: old and new processes of different VMs fit together."""
    cluster = start()
    if (pid := os.fork()) == 0:
        handover.end = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[attr-defined]
        with locked(NAME):
            _hand_over(cluster, tmp_path / "work")
    os.waitpid(pid, 0)
    found = read_record(NAME)
    assert found is not None
    assert found.unfinished is not None
    new = {node.name: node.process for node in found.unfinished.nodes}
    end([found.node("vm-001").process, new["vm-002"]], grace=0)
    record = whole(*GUESTS).record
    assert record.node("vm-001").process == new["vm-001"]
    assert record.node("vm-002").process == cluster.record.node("vm-002").process
    assert record.memory == "private"


def test_after_a_log_out_that_removed_its_sockets_the_cluster_ends_and_starts_again(
    start: Callable[..., Cluster], capfd: pytest.CaptureFixture[str]
) -> None:
    """As logind does to a user who does not linger."""
    start()
    place = runtime_dir(NAME)
    shutil.rmtree(place)
    for verb in (["exec", "-n", "vm-001", "--", "true"], ["check"], ["snapshot", "save", "x"]):
        assert app.run(["--name", NAME, "--quiet", *verb]) != 0
        assert "Traceback" not in capfd.readouterr().err
        assert not place.exists(), verb
    assert app.run(["--name", NAME, "exec", "-n", "vm-001", "--", "true"]) == 8
    assert "loginctl enable-linger" in capfd.readouterr().err
    assert app.run(["--name", NAME, "--quiet", "down"]) == 0
    assert qemus() == set()
    start()
    assert place.stat().st_mode & 0o777 == 0o700
    whole(*GUESTS)


def test_while_a_command_works_others_leave_it_alone(start: Callable[..., Cluster]) -> None:
    cluster = start()
    unfinished = attrs.evolve(cluster.record, unfinished=Unfinished(step="pause"))
    write_record(unfinished)
    ready, go = os.pipe(), os.pipe()
    if (pid := os.fork()) == 0:
        with locked(NAME):
            os.write(ready[1], b"x")
            os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    assert open_cluster(NAME).record == unfinished
    assert cluster.as_of(unfinished).status()["phase"] == "running"
    os.write(go[1], b"x")
    os.waitpid(pid, 0)
    assert open_cluster(NAME).record.unfinished is None
