"""`xk8s bench` on real VMs of the plain base: what it measures, and what it leaves."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from attrs import evolve
from xk8s.errors import MachineError
from xk8s.names.request import Request
from xk8s.progress import Silent
from xk8s_bench.lab import laboratory
from xk8s_bench.vm import parts, switched_on

from tests.cluster.test_broken_starts import wait_for
from tests.conftest import Xk8s

pytestmark = pytest.mark.cluster


@pytest.fixture
def own(xk8s: Xk8s, tmp_path: Path) -> Xk8s:
    """The command with a state in which a user has something."""
    command = evolve(xk8s, root=xk8s.root / "bench")
    mine = command.root / "s" / "snapshots" / "xk8s" / "mine" / "kept"
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("mine")
    return command


def state(own: Xk8s) -> dict[str, bytes]:
    found = [path for path in (own.root / "s").rglob("*") if path.is_file()]
    return {str(path.relative_to(own.root)): path.read_bytes() for path in found}


def test_layers_and_floor(own: Xk8s, tmp_path: Path) -> None:
    before = state(own)
    out = tmp_path / "out"
    words = ("--overlay", "debian", "--runs", "1", "-o", str(out), "--json")
    layers, floor = own.json("bench", "layers", "floor", *words, timeout=1800)
    assert [series["name"] for series in layers["series"]] == ["layers", "tars"]
    assert [measure["name"] for measure in layers["measures"]] == ["systemd", "login", "memory"]
    systemd, login, memory = layers["measures"]
    for first, then in zip(systemd["series"], login["series"], strict=True):
        # From the kernel's start; the other from power-on.
        assert first["median"] < then["median"]
    assert memory["unit"] == "MiB"
    assert [series["name"] for series in floor["series"]] == ["base", "kernel"]
    (times,) = floor["measures"]
    base, kernel = times["series"]
    assert (base["ratio"], kernel["values"]) == (1, [kernel["median"]])
    assert kernel["ratio"] < 1
    for result in (layers, floor):
        assert result["version"] == 1
        assert result["plans"][0]["overlays"] == ["debian"]
        assert [run["number"] for run in result["order"]] == [1, 1]
        assert result["machine"]["accel"] in ("TCG", "KVM")
        name = result["comparison"]
        assert json.loads((out / f"{name}.json").read_text()) == result
        assert (out / f"{name}.svg").read_text().startswith("<?xml")
    assert state(own) == before
    assert own.left() == []


def test_a_bench_that_is_ended_leaves_nothing(own: Xk8s, tmp_path: Path) -> None:
    before = state(own)
    out = tmp_path / "out"
    bench = own.start("bench", "layers", "--overlay", "debian", "-o", str(out))
    try:
        wait_for(lambda: bench.poll() is not None or any("qemu" in p for p in own.processes()))
        assert bench.poll() is None, bench.communicate()
        bench.send_signal(signal.SIGTERM)
        _, said = bench.communicate()
    finally:
        if bench.poll() is None:
            bench.kill()
            bench.wait()
    assert bench.returncode == 130, said
    assert list(out.iterdir()) == []
    assert state(own) == before
    assert own.left() == []


def test_a_vm_that_dies_tells_its_last_words(own: Xk8s, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in own.environment.items():
        monkeypatch.setenv(key, value)
    before = state(own)
    request = Request(overlays=("debian",), environment={})

    def boot() -> None:
        with laboratory(request, Silent(), counts=(1,)) as lab:
            made = parts(lab.plan_of_nodes(1), Silent(), lab.scratch, lab.held)
            with switched_on(made, (), kernel_args=("rdinit=/no/such/init",)) as vm:
                vm.seconds_to(made.prompt)

    with pytest.raises(MachineError, match="the VM ended before its console said") as at:
        boot()
    assert "Kernel panic" in at.value.log
    assert state(own) == before
    assert own.left() == []
