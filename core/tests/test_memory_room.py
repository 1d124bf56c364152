"""The RAM of VMs on a small tmpfs: what one cluster was promised, no other one gets."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest
from xk8s.cluster.state.booted import BootedCluster, planned_boot
from xk8s.cluster.state.node_paths import ram_path
from xk8s.cluster.vms.memory_room import choose_backing, promise, release, release_unused
from xk8s.errors import HostError
from xk8s.machine.qemu.accelerator import decide
from xk8s.planning.plan import Plan
from xk8s.progress import Silent
from xk8s.util.paths import make_private, memory_dir, runtime_root

from tests.notes import Notes

MIB = 1 << 20
pytestmark = pytest.mark.usefixtures("own_places", "small")


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A tmpfs of 100 MiB."""
    place = tmp_path / "memory"
    place.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=100m,mode=700", "tmpfs", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can make a small tmpfs")
    monkeypatch.setenv("XK8S_MEMORY", str(place))
    make_private(runtime_root())
    yield
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def boot(plan_of: Callable[..., Plan]) -> Callable[[str, int], BootedCluster]:
    def make(name: str, mib: int) -> BootedCluster:
        whole = planned_boot(plan_of(name), decide("tcg"), {})
        (booted,) = whole.nodes
        node = attrs.evolve(booted.node, memory=mib)
        return attrs.evolve(whole, nodes=(attrs.evolve(booted, node=node),))

    return make


def ram(cluster: str, mib: int, *, written: int = 0) -> None:
    """A file as QEMU has it, of which the guest has written a part."""
    with ram_path(cluster, "vm-001").open("wb") as file:
        file.write(b"x" * (written * MIB))
        file.truncate(mib * MIB)


def test_a_third_cluster_gets_no_room_that_two_were_promised(
    boot: Callable[[str, int], BootedCluster],
) -> None:
    notes = Notes()
    for name in ("one", "two"):
        assert choose_backing(boot(name, 40), notes, saved=True, copied=False) == "shared"
    assert notes.notes == []
    # As soon as these start nothing of it is used yet, and later just a part.
    ram("one", 40, written=10)
    assert choose_backing(boot("three", 40), notes, saved=True, copied=False) == "anonymous"
    (note,) = notes.notes
    assert "not enough space for 40 MiB of memory of VMs: 89 MiB are free, 70 MiB" in note
    assert "to one, two" in note
    with pytest.raises(HostError, match="promised to one, two"):
        promise("three", 40 * MIB)
    promise("three", 15 * MIB)
    with pytest.raises(HostError):
        promise("one", 10 * MIB)


def test_of_many_that_ask_at_once_no_more_get_it_than_there_is(
    boot: Callable[[str, int], BootedCluster],
) -> None:
    def ask(number: int) -> str:
        return choose_backing(boot(f"c{number}", 30), Silent(), saved=True, copied=False)

    with ThreadPoolExecutor(max_workers=8) as pool:
        kinds = list(pool.map(ask, range(8)))
    assert kinds.count("shared") == 3


def test_what_will_not_be_used_is_free_for_others() -> None:
    promise("one", 60 * MIB)
    ram("one", 60, written=5)
    with pytest.raises(HostError):
        promise("two", 60 * MIB)
    release_unused("one")  # saved: new processes write elsewhere
    promise("two", 60 * MIB)
    release("two", 60 * MIB)
    promise("three", 90 * MIB)


def test_a_cluster_of_which_nothing_is_noted_counts_by_its_files() -> None:
    promise("one", 10 * MIB)
    ram("one", 60, written=5)
    (memory_dir("one") / "promised").unlink()
    with pytest.raises(HostError, match="promised to one"):
        promise("two", 60 * MIB)
    promise("two", 30 * MIB)


def test_a_cluster_that_is_down_is_promised_nothing() -> None:
    promise("one", 90 * MIB)
    for path in memory_dir("one").iterdir():
        path.unlink()
    memory_dir("one").rmdir()
    promise("two", 90 * MIB)
    assert memory_dir("two").stat().st_mode & 0o777 == 0o700
