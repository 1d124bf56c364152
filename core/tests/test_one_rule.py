"""Rules that once stood in several places and disagreed: each has one home, and all ask it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import evolve
from click.testing import CliRunner
from xk8s import apt, subordinate_ids
from xk8s.build.artifacts.sources import oci_image
from xk8s.build.artifacts.store import Store
from xk8s.cli.verbs import layers, logs
from xk8s.cluster.checks.logs import since_argument
from xk8s.cluster.inputs import ClusterInputs
from xk8s.cluster.state.booted import boot_of
from xk8s.cluster.state.node_paths import image_path
from xk8s.cluster.vms import launch
from xk8s.cluster.vms.machine_key import machine_key
from xk8s.cluster.vms.memory_room import choose_backing
from xk8s.cluster.vms.ram import memory_of
from xk8s.errors import ArtifactError, HostError, MachineError, SourceFailed, UsageError
from xk8s.machine.qemu import command, process
from xk8s.machine.qemu.accelerator import Accel
from xk8s.machine.qemu.command import MachineSpec
from xk8s.names.request import Request
from xk8s.planning.make_plan import make_plan
from xk8s.planning.plan import Plan
from xk8s.progress import Silent
from xk8s.report import doctor
from xk8s.sources import Artifact, DebPackage
from xk8s.testing.command import Xk8s
from xk8s.util.host_memory import memory_of_host, parse_meminfo, proportional_memory
from xk8s.util.jobs import MARK, kill_marked, marked
from xk8s.util.paths import make_private, runtime_dir, state_dir
from xk8s.util.processes import (
    CLUSTER_VARIABLE,
    Process,
    all_processes,
    cluster_environment,
    end,
    leftovers,
)
from xk8s.util.units import parse_duration
from xk8s_bench import vm
from xk8s_debian import base, mirror
from xk8s_images import stores
from xk8s_images.reference import cluster_name, full_ref

TCG = Accel(name="tcg", args=("-accel", "tcg"), reason="test")


# --- the Debian mirror and the keyring ------------------------------------------------------


@pytest.fixture
def chosen_mirror(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("XK8S_DEBIAN_MIRROR", "http://127.0.0.1:1/mirror-of-debian")
    return "http://127.0.0.1:1/mirror-of-debian"


def test_doctor_judges_the_mirror_that_builds_use(
    chosen_mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its address does not end with /debian: doctor once failed it, and builds used it."""
    monkeypatch.setattr(apt, "KEYRING", Path("/dev/null"))
    apt.configured_mirror()  # what was found before must not count
    assert doctor.mirror()[:2] == ("ok", chosen_mirror)
    assert chosen_mirror in mirror.sources_list("trixie")[0]


def test_doctor_judges_the_keyring_that_builds_use(
    chosen_mirror: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    monkeypatch.setattr(apt, "KEYRING", keyring)
    assert doctor.keyring() == ("ok", str(keyring), "")
    assert mirror.sources_list("trixie")[0].startswith(f"deb [signed-by={keyring}] {chosen_mirror}")


@pytest.mark.parametrize("lacking", ["mirror", "keyring"])
def test_what_apt_lacks_has_one_remedy_in_doctor_and_in_builds(
    lacking: str, chosen_mirror: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """doctor, the base system and packages of overlays once said three things about it."""
    if lacking == "mirror":
        monkeypatch.delenv("XK8S_DEBIAN_MIRROR")
        monkeypatch.setattr(apt, "configured_mirror", lambda: None)
    else:
        monkeypatch.setattr(apt, "KEYRING", tmp_path / "keyring.gpg")
    (finding,) = doctor.examine([(lacking, getattr(doctor, lacking))])
    assert finding.level == "fail"
    assert finding.do
    with pytest.raises(HostError) as of_base:
        mirror.sources_list("trixie")
    assert (str(of_base.value), of_base.value.hint) == (finding.text, finding.do)
    store = Store(tmp_path / "cache")
    source = DebPackage(suite="trixie", members={"a": ("one", "/usr/bin/a")})
    with pytest.raises(ArtifactError) as of_package:
        store.get(Artifact(name="x", version="1", members=("a",), sources=(source,)), Silent())
    assert finding.text in str(of_package.value) + of_package.value.log
    assert finding.do in str(of_package.value) + of_package.value.log


# --- subordinate ids --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ranges", "enough"),
    [
        ([65536], True),
        ([40000, 40000], False),
        ([1000, 70000], True),
        ([65535], False),
        ([], False),
    ],
)
def test_one_range_has_to_be_large_enough_for_everyone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranges: list[int], enough: bool
) -> None:
    """Two ranges of 40,000 were ok for doctor, refused by the base, and enough for images."""
    file = tmp_path / "subuid"
    lines = [f"{subordinate_ids.login()}:{100000 * n}:{size}" for n, size in enumerate(ranges, 1)]
    file.write_text("\n".join([*lines, "nobody-else:1:999999", "damaged"]) + "\n")
    monkeypatch.setattr(subordinate_ids, "FILES", (file, file))
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr("shutil.which", lambda *_, **__: "/usr/bin/newuidmap")
    assert (doctor.id_ranges()[0] == "ok") is enough
    if enough:
        assert base._mode() == "unshare"
    else:
        with pytest.raises(Exception, match="65536 ids"):
            base._mode()
    assert ("--map-auto" in stores.namespace_argv()) is enough


# --- the machine of a saved state ---------------------------------------------------------------


def test_another_command_line_is_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit of a device must not let old snapshots be restored onto the new machine."""
    before = machine_key(TCG)
    assert machine_key(TCG) == before
    monkeypatch.setattr(command, "_NIC_SLOT", command._NIC_SLOT + 1)
    assert machine_key(TCG) != before


# --- the VM that a bench measures ---------------------------------------------------------------


def test_a_bench_measures_the_vm_that_up_boots_no_qemu_is_started(
    own_places: Path, kit_of: Callable[[Plan], ClusterInputs], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its VM once had anonymous RAM and no interface but the management network's."""
    (own_places / "runtime").mkdir(mode=0o700)
    monkeypatch.setenv("XK8S_MEMORY", str(own_places / "memory"))
    sets = ("cluster.nodes=1", "cluster.routers=0")
    inputs = kit_of(make_plan(Request(overlays=("debian",), sets=sets, environment={})))
    boot = boot_of(inputs)
    for directory in (runtime_dir(boot.cluster), state_dir(boot.cluster)):
        make_private(directory)
    own = image_path(boot.cluster, boot.nodes[0].node.name)
    for path in (own, *(layer.path for layer in inputs.layers.values())):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"erofs")
    specs: list[MachineSpec] = []

    def spawn(spec: MachineSpec, **_: object) -> None:
        specs.append(spec)
        raise MachineError("not here")

    monkeypatch.setattr(process, "spawn", spawn)
    backing = choose_backing(boot, Silent(), saved=True, copied=False)
    namespace = launch.networks(boot)
    try:
        with pytest.raises(MachineError, match="not here"):
            launch.start(boot, namespace, memory_of(boot, backing))
    finally:
        namespace.stop()
    parts = vm.Parts(
        plan=inputs.plan, accel=inputs.accel, resolved=inputs.resolved, layers=inputs.layers,
        own=own,
    )  # fmt: skip
    with pytest.raises(MachineError, match="not here"), vm.switched_on(parts, parts.stack):
        pass
    product, measured = (
        # Descriptors have other numbers, and nobody connects to the one that is measured.
        [re.sub(r"\bfd=\d+", "", word) for word in command.command(spec)]
        for spec in specs
    )
    assert measured == product
    assert sum("virtio-net" in word for word in measured) > 1


# --- durations ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("5min", 300), ("2h", 7200), ("7d", 604800), ("2w", 1209600)],
)
def test_durations_mean_the_same_everywhere(text: str, seconds: int) -> None:
    """`logs --since 2w` once worked for journals and not for files of pods."""
    assert parse_duration(text) == seconds
    assert since_argument(text) == f"-{text}"
    assert logs.started(text)
    assert layers._age(None, None, text) == seconds  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "5", "m", "5 parsecs", "-5m", "1.5h"])
def test_what_is_not_a_duration_is_refused(text: str) -> None:
    assert parse_duration(text) is None
    with pytest.raises(UsageError, match="not a time"):
        logs.started(text)
    result = CliRunner().invoke(layers.command, ["prune", "--older-than", text])
    assert result.exit_code != 0


# --- T14: memory ------------------------------------------------------------------------------


def test_memory_is_in_bytes_for_a_host_a_guest_and_a_process() -> None:
    text = "MemTotal:        2048 kB\nMemAvailable:    1024 kB\nHugePages_Total:       3\n"
    assert parse_meminfo(text) == {"MemTotal": 2048 << 10, "MemAvailable": 1024 << 10}
    total, available = memory_of_host("MemTotal"), memory_of_host("MemAvailable")
    assert 0 < available < total
    assert 1 << 20 < proportional_memory(os.getpid()) < total
    assert proportional_memory(2**22 + 1) == 0, "no pid is that high"


# --- T8: processes by a mark in their environment ---------------------------------------------


@contextmanager
def running(
    argv: Sequence[str | Path], env: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A program, once its environment can be read: Popen returns a little earlier."""
    child = subprocess.Popen(argv, env=env)
    try:
        until = time.monotonic() + 20
        while not Path(f"/proc/{child.pid}/environ").read_bytes():
            assert time.monotonic() < until
            time.sleep(0.005)
        yield child
    finally:
        child.kill()
        child.wait()


def test_every_scanner_finds_the_same_process_and_ends_only_that(tmp_path: Path) -> None:
    marks = {MARK: str(tmp_path / "lock"), CLUSTER_VARIABLE: str(tmp_path)}
    with running(["sleep", "60"], {**os.environ, **marks}) as child:
        (process,) = leftovers(tmp_path)
        assert process == Process.of(child.pid)
        assert process.variable(MARK) == marks[MARK]
        assert marked()[process] == marks[MARK]
        assert process in all_processes()
        earlier = evolve(process, started=process.started - 1)
        assert end([earlier]) == ()
        assert child.poll() is None, "a process that had this pid before is not this one"
        assert kill_marked(marks[MARK]) == [child.pid]
        assert leftovers(tmp_path) == ()


def test_a_process_whose_name_is_cut_within_a_character_stops_no_scan(tmp_path: Path) -> None:
    """Linux cuts names after 15 bytes: every process of the machine is looked at, also this one."""
    program = tmp_path / ("é" * 8)
    shutil.copy("/bin/sleep", program)
    with running([program, "60"], cluster_environment(tmp_path)) as child:
        name = Path(f"/proc/{child.pid}/comm").read_bytes().rstrip(b"\n")
        assert name == ("é" * 8).encode()[:15]
        assert [process.pid for process in leftovers(tmp_path)] == [child.pid]


def test_processes_of_a_similar_state_directory_are_not_counted(tmp_path: Path) -> None:
    """A cluster below /tmp/x2 was counted as left by the tests whose state is in /tmp/x."""
    (tmp_path / "x").mkdir()
    (tmp_path / "link").symlink_to("x")
    mine, similar = (cluster_environment(tmp_path / name / "r") for name in ("x", "x2"))
    with running(["sleep", "61"], mine), running(["sleep", "62"], similar):
        assert Xk8s(root=tmp_path / "x").processes() == ["sleep 61"]
        assert Xk8s(root=tmp_path / "link").processes() == ["sleep 61"]


# --- T13: image references ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ref", "valid"),
    [
        ("r.example/a", True),
        ("r.example:5000/a/b_c:v1.0-x", True),
        (f"r.example/a:1@sha256:{'0' * 64}", True),
        ("r.example/a:", False),
        ("r.example/a@", False),
        ("r.example/a:é", False),
        ("r.example:٣/a", False),
        (f"r.example/a@sha256:{'0' * 63}", False),
        ("r.example/A", False),
    ],
)
def test_sources_and_settings_take_the_same_references(ref: str, valid: bool) -> None:
    """Half of the invalid ones were sent to the registry: as `latest`, or with a letter that is
    not ASCII.
    """
    if valid:
        assert oci_image.parse(ref).host == ref.partition("/")[0]
        assert cluster_name(full_ref(ref))
        return
    with pytest.raises(SourceFailed, match="is not an image reference like"):
        oci_image.parse(ref)
    with pytest.raises(UsageError, match="is not an image reference"):
        cluster_name(ref)
