"""The state of a VM in a file: saved by one QEMU, and running on in another."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from xk8s.errors import HostError, MachineError
from xk8s.machine.qemu import migrate
from xk8s.machine.qemu.accelerator import qemu_version
from xk8s.machine.qemu.command import MachineSpec, Memory, Sockets
from xk8s.machine.qemu.process import Started, start
from xk8s.machine.qemu.qmp import Qmp
from xk8s.util.processes import end


def lacking() -> str | None:
    try:
        version = qemu_version()
    except HostError as error:
        return str(error)
    return None if version >= migrate.LEAST_QEMU else "migration to a file takes QEMU 8.2"


pytestmark = pytest.mark.skipif(lacking() is not None, reason=str(lacking()))

KEPT = 0x200000  # where the guest keeps the last byte that it echoed

Run = Callable[..., MachineSpec]


@pytest.fixture
def run(spec: MachineSpec, runtime: Path) -> Iterator[Run]:
    """Starts one more VM like the others: ``run(memory, incoming=False)``."""
    processes: list[Started] = []

    def start_one(memory: Memory, *, incoming: bool = False) -> MachineSpec:
        name = f"vm-{len(processes)}"
        this = evolve(
            spec,
            memory=memory,
            incoming=incoming,
            sockets=Sockets.below(runtime, name),
            pidfile=runtime / f"{name}.pid",
            console_log=runtime / f"{name}.log",
        )
        processes.append(start(this, runtime_dir=runtime, stderr=runtime / f"{name}.err"))
        return this

    yield start_one
    end([started.process for started in processes], grace=0)


@pytest.fixture
def ram(tmp_path: Path) -> Path:
    return tmp_path / "ram"


def qmp(vm: MachineSpec) -> Qmp:
    return Qmp(vm.sockets.qmp, vm.sockets.qmp.stem)


def echo(vm: MachineSpec, text: bytes) -> bytes:
    """What the guest answers. It waits for the guest, so a guest that stands still fails it."""
    with socket.socket(socket.AF_UNIX) as console:
        console.settimeout(5)
        console.connect(str(vm.sockets.console))
        console.sendall(text)
        seen = b""
        while not seen.endswith(text):
            seen += console.recv(100)
    return seen


def booted(vm: MachineSpec) -> MachineSpec:
    """The firmware prints letters too: wait for the guest's own."""
    deadline = time.monotonic() + 20
    while "hello" not in vm.console_log.read_text():
        assert time.monotonic() < deadline, vm.console_log.read_text()
        time.sleep(0.01)
    return vm


def kept(session: Qmp) -> bytes:
    answer = session.execute("human-monitor-command", command_line=f"xp /1xb {KEPT:#x}")
    return bytes((int(str(answer).split(":")[1], 16),))


def wait_kept(vm: MachineSpec, byte: bytes) -> None:
    """The guest keeps the byte after its echo."""
    deadline = time.monotonic() + 5
    with qmp(vm) as session:
        while kept(session) != byte:
            assert time.monotonic() < deadline, kept(session)


def byte_of(ram: Path) -> bytes:
    with ram.open("rb") as file:
        file.seek(KEPT)
        return file.read(1)


@pytest.fixture
def state(run: Run, ram: Path, tmp_path: Path) -> Path:
    """Of a VM with its RAM in ``ram``, after it echoed "a"."""
    path = tmp_path / "state"
    vm = booted(run(Memory(size=32, file=ram, share=True)))
    echo(vm, b"a")
    wait_kept(vm, b"a")
    with qmp(vm) as session:
        session.execute("stop")
        migrate.save(session, path)
        session.quit()
    return path


def restore(run: Run, ram: Path, state: Path, *, whole: bool = False) -> MachineSpec:
    vm = run(Memory(size=32, file=ram, saved=ram.exists()), incoming=True)
    with qmp(vm) as session:
        assert session.status() == "inmigrate"
        migrate.load(session, state, ram=whole)
        assert session.status() == "paused"
        session.execute("cont")
        assert session.status() == "running"
    return vm


def test_restored_vm_runs_on_and_leaves_the_file_alone(run: Run, ram: Path, state: Path) -> None:
    assert byte_of(ram) == b"a"
    assert state.stat().st_size < 4 << 20  # without the RAM
    before = ram.stat()
    vms = [restore(run, ram, state) for _ in range(2)]  # as many as one likes
    for vm, byte in zip(vms, (b"b", b"c"), strict=True):
        with qmp(vm) as session:
            assert kept(session) == b"a"
        assert echo(vm, byte) == byte  # it goes on, and did not boot
        wait_kept(vm, byte)
    assert byte_of(ram) == b"a"
    after = ram.stat()
    assert (after.st_mtime_ns, after.st_blocks) == (before.st_mtime_ns, before.st_blocks)


def test_restored_vm_is_saved_with_its_own_ram(
    run: Run, ram: Path, state: Path, tmp_path: Path
) -> None:
    vm = restore(run, ram, state)
    echo(vm, b"b")
    wait_kept(vm, b"b")
    whole = tmp_path / "whole"
    with qmp(vm) as session:
        session.execute("stop")
        migrate.save(session, whole, ram=True)
        session.execute("cont")
    echo(vm, b"c")  # it goes on
    again = restore(run, tmp_path / "other-ram", whole, whole=True)
    with qmp(again) as session:
        assert kept(session) == b"b"
    echo(again, b"d")


@pytest.mark.parametrize("damage", ["other magic", "half", "empty", "missing"])
def test_damaged_state_is_an_error(run: Run, ram: Path, state: Path, damage: str) -> None:
    data = state.read_bytes()
    state.unlink()
    if damage == "other magic":
        state.write_bytes(b"\0" * 8 + data[8:])
    elif damage == "half":
        state.write_bytes(data[: len(data) // 2])
    elif damage == "empty":
        state.touch()
    vm = run(Memory(size=32, file=ram, saved=ram.exists()), incoming=True)
    with pytest.raises(MachineError, match="vm-1"), qmp(vm) as session:
        migrate.load(session, state, timeout=5)


def test_state_of_another_machine_is_an_error(run: Run, tmp_path: Path, state: Path) -> None:
    vm = run(Memory(size=48, file=tmp_path / "other-ram"), incoming=True)
    with pytest.raises(MachineError, match="vm-1"), qmp(vm) as session:
        migrate.load(session, state, timeout=5)


def test_vm_that_cannot_be_saved_goes_on(run: Run, ram: Path, tmp_path: Path) -> None:
    vm = booted(run(Memory(size=32, file=ram, share=True)))
    nowhere = tmp_path / "nowhere" / "state"
    with qmp(vm) as session:
        session.execute("stop")
        with pytest.raises(MachineError, match="vm-0") as caught:
            migrate.save(session, nowhere, timeout=5)
        assert "No such file" in str(caught.value)
        session.execute("cont")
        assert session.status() == "running"
    echo(vm, b"a")


def test_shared_ram_goes_into_a_state_where_it_must(run: Run, ram: Path, tmp_path: Path) -> None:
    vm = booted(run(Memory(size=32, file=ram, share=True)))
    echo(vm, b"a")
    wait_kept(vm, b"a")
    whole = tmp_path / "whole"
    with qmp(vm) as session:
        session.execute("stop")
        migrate.save(session, whole, ram=True)
        session.quit()
    again = restore(run, tmp_path / "other-ram", whole, whole=True)
    with qmp(again) as session:
        assert kept(session) == b"a"


# --- from one QEMU to another -----------------------------------------------------------


def move(source: MachineSpec, target: MachineSpec, **more: Any) -> float:
    path = source.sockets.qmp.with_suffix(".move")
    with qmp(source) as before, qmp(target) as after:
        try:
            return migrate.move(before, after, path, version=qemu_version(), **more)
        finally:
            assert not path.exists()


def test_a_running_vm_gets_its_private_ram_shared(
    run: Run, ram: Path, state: Path, tmp_path: Path
) -> None:
    vm = restore(run, ram, state)
    echo(vm, b"b")
    wait_kept(vm, b"b")
    shared = tmp_path / "shared"
    new = run(Memory(size=32, file=shared, share=True), incoming=True)
    pause = move(vm, new)
    assert 0 <= pause < 5
    with qmp(vm) as before, qmp(new) as after:
        assert (before.status(), after.status()) == ("postmigrate", "running")
        before.quit()
    echo(new, b"c")
    wait_kept(new, b"c")
    assert byte_of(shared) == b"c"
    assert byte_of(ram) == b"a"
    # And now it is saved as one that was booted.
    again = tmp_path / "again"
    with qmp(new) as session:
        session.execute("stop")
        migrate.save(session, again)
        session.quit()
    assert again.stat().st_size < 4 << 20
    third = restore(run, shared, again)
    with qmp(third) as session:
        assert kept(session) == b"c"
    echo(third, b"d")


def test_pages_that_a_vm_never_wrote_stay_holes_of_the_shared_file(
    run: Run, ram: Path, tmp_path: Path
) -> None:
    if qemu_version() < (9, 1):
        pytest.skip("this QEMU reads, and so makes, all pages")
    vm = booted(run(Memory(size=512, file=ram)))
    # On a tmpfs even to read a page makes it.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        shared = Path(name, "shared")
        new = run(Memory(size=512, file=shared, share=True), incoming=True)
        move(vm, new)
        assert shared.stat().st_blocks * 512 < 64 << 20
        echo(new, b"c")


@pytest.mark.parametrize("gone", ["dead", "another machine"])
def test_a_vm_that_cannot_be_moved_runs_on(
    run: Run, ram: Path, state: Path, tmp_path: Path, gone: str
) -> None:
    vm = restore(run, ram, state)
    size = 48 if gone == "another machine" else 32
    new = run(Memory(size=size, file=tmp_path / "shared", share=True), incoming=True)
    if gone == "dead":
        with qmp(new) as session, qmp(vm) as source:
            os.kill(int(new.pidfile.read_text()), signal.SIGKILL)
            with pytest.raises(MachineError):
                migrate.move(source, session, tmp_path / "move", version=qemu_version())
    else:
        with pytest.raises(MachineError):
            move(vm, new, timeout=5)
    echo(vm, b"b")
    with qmp(vm) as session:
        assert session.status() == "running"
    # It can be moved to a good one later.
    good = run(Memory(size=32, file=tmp_path / "good", share=True), incoming=True)
    move(vm, good)
    echo(good, b"c")


def test_a_vm_that_does_not_get_done_in_time_runs_on(
    run: Run, ram: Path, state: Path, tmp_path: Path
) -> None:
    vm = restore(run, ram, state)
    new = run(Memory(size=32, file=tmp_path / "shared", share=True), incoming=True)
    with pytest.raises(MachineError, match="cannot move"):
        move(vm, new, timeout=0.0)
    echo(vm, b"b")
    with qmp(vm) as session:
        assert session.status() == "running"
