"""The wait for a line on the console of a VM; any process stands for its QEMU."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
from xk8s.cluster.state.node_paths import qemu_log
from xk8s.cluster.vms.boot_console import StalledError, wait_for_line
from xk8s.errors import MachineError
from xk8s.machine.qemu.command import MachineSpec
from xk8s.machine.qemu.process import Spawned
from xk8s.util.processes import Process

Start = Callable[..., Spawned]


@pytest.fixture
def start(spec: MachineSpec, tmp_path: Path) -> Iterator[Start]:
    children = []

    def make(*argv: str, console: str | None = None) -> Spawned:
        path = tmp_path / "console.log"
        if console is not None:
            path.write_text(console)
        child = subprocess.Popen(argv or ("sleep", "60"))
        children.append(child)
        return Spawned(
            spec=attrs.evolve(spec, console_log=path), process=Process.of(child.pid),
            stderr=qemu_log(path), child=child,
        )  # fmt: skip

    yield make
    for child in children:
        child.kill()
        child.wait()


def test_a_line_that_comes_late_ends_the_wait(start: Start) -> None:
    vm = start()
    writer = threading.Timer(0.1, lambda: vm.spec.console_log.write_text("loading\nlogin: "))
    writer.start()
    begin = time.monotonic()
    wait_for_line(vm, "login:", 30.0)
    assert 0.1 <= time.monotonic() - begin < 10
    writer.join()


def test_the_last_words_of_a_vm_that_ended_count(start: Start) -> None:
    vm = start("true", console="saved\nKernel panic")
    wait_until_ended(vm)
    wait_for_line(vm, "saved", 30.0)
    with pytest.raises(MachineError, match="the VM ended before its console said 'login'") as at:
        wait_for_line(vm, "login", 30.0)
    assert "Kernel panic" in at.value.log
    assert at.value.hint


def test_a_qemu_that_ends_before_its_guest_says_anything_is_quoted(start: Start) -> None:
    vm = start("true")
    qemu_log(vm.spec.console_log).write_text("qemu: no such machine\n")
    wait_until_ended(vm)
    with pytest.raises(MachineError) as at:
        wait_for_line(vm, "login", 30.0)
    assert "no such machine" in at.value.log


def test_silence_has_a_limit(start: Start) -> None:
    with pytest.raises(MachineError, match="its console did not say 'login' in 0 s"):
        wait_for_line(start(console="loading"), "login", 0.05)


def test_a_guest_that_lost_its_timer_is_not_waited_for(start: Start) -> None:
    """A bench once waited ten minutes for it; whoever makes a template tries again."""
    with pytest.raises(StalledError, match="lost its timer"):
        wait_for_line(start(console="rcu: kthread timer wakeup didn't happen for"), "login", 30.0)


def test_a_wait_can_be_stopped(start: Start) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(MachineError, match="given up"):
        wait_for_line(start(console="loading"), "login", 30.0, stop=stop)


def wait_until_ended(vm: Spawned) -> None:
    deadline = time.monotonic() + 10
    while vm.process.alive and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not vm.process.alive
