"""QEMU's process, monitor and console, with a real QEMU and a guest of 40 bytes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import filelock
import pytest
from attrs import evolve
from xk8s.errors import HostError, MachineError, StateError
from xk8s.machine.qemu import console
from xk8s.machine.qemu.accelerator import PROGRAM
from xk8s.machine.qemu.command import MachineSpec, Memory
from xk8s.machine.qemu.confinement import sandbox_problem
from xk8s.machine.qemu.process import Started, start
from xk8s.machine.qemu.qmp import Qmp
from xk8s.util.log import Record
from xk8s.util.processes import Process, cluster_environment, end, leftovers

needs_qemu = pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="QEMU is not installed")


@pytest.fixture
def vm(spec: MachineSpec, runtime: Path) -> Iterator[Started]:
    started = start(spec, runtime_dir=runtime, stderr=runtime / "vm-007.err")
    yield started
    end([started.process], grace=2)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_for(log: Path, text: str) -> None:
    wait_until(lambda: text in log.read_text())


@needs_qemu
def test_started_vm_is_found_by_its_mark_and_ended(
    spec: MachineSpec, vm: Started, runtime: Path
) -> None:
    assert leftovers(runtime) == (vm.process,)
    assert vm.process.alive
    assert os.getsid(vm.process.pid) == vm.process.pid
    assert int(spec.pidfile.read_text()) == vm.process.pid
    for path in (spec.sockets.qmp, spec.sockets.agent, spec.console_log, runtime / "vm-007.err"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert end([vm.process]) == ()
    assert leftovers(runtime) == ()


@needs_qemu
def test_what_qemu_is_asked_is_logged(
    spec: MachineSpec, records: list[Record], vm: Started
) -> None:
    with Qmp(spec.sockets.qmp, "vm-007") as qmp:
        qmp.status()
        with pytest.raises(MachineError):
            qmp.set_link("nic9", up=True)
    found = {record.event: record.fields for record in records}
    assert found["qemu_started"]["pid"] == vm.process.pid
    assert found["qemu_started"]["argv"][0] == PROGRAM  # type: ignore[index]
    assert found["qemu_answered"]["node"] == "vm-007"
    commands = [record.fields for record in records if record.event == "qmp_command"]
    assert [fields["command"] for fields in commands[-2:]] == ["query-status", "set_link"]
    assert {fields["node"] for fields in commands} == {"vm-007"}
    assert "error" not in commands[-2]
    assert "nic9" in str(commands[-1]["error"])
    assert found["qmp_command_sent"]["arguments"] == {"name": "nic9", "up": True}


@needs_qemu
def test_monitor_status_link_quit(spec: MachineSpec, vm: Started) -> None:
    with Qmp(spec.sockets.qmp, "vm-007") as qmp:
        assert qmp.status() == "running"
        qmp.set_link("nic0", up=False)
        qmp.set_link("nic0", up=True)
        with pytest.raises(MachineError, match=r"vm-007.*nic9"):
            qmp.set_link("nic9", up=True)
        qmp.execute("stop")
        assert qmp.status() == "paused"
    with Qmp(spec.sockets.qmp, "vm-007") as qmp:
        qmp.quit()
    deadline = time.monotonic() + 5
    while vm.process.alive:
        assert time.monotonic() < deadline
    with pytest.raises(MachineError, match="vm-007"), Qmp(spec.sockets.qmp, "vm-007"):
        pass


@needs_qemu
def test_a_guest_that_resets_itself_ends_its_vm_until_it_may_boot_again(
    spec: MachineSpec, vm: Started
) -> None:
    def reset_by_guest() -> None:
        with Qmp(spec.sockets.qmp, "vm-007") as qmp, suppress(MachineError):
            for value in (0x02, 0x06):  # what a kernel writes to the port, too
                qmp.monitor(f"o/b 0xcf9 {value:#x}")

    wait_for(spec.console_log, "hello")
    with Qmp(spec.sockets.qmp, "vm-007") as qmp:
        qmp.survive_reboots()
    reset_by_guest()
    wait_until(lambda: spec.console_log.read_text().count("hello") == 2)
    assert vm.process.alive
    with Qmp(spec.sockets.qmp, "vm-007") as qmp:
        qmp.end_with_reboot()
    reset_by_guest()
    wait_until(lambda: not vm.process.alive)


@needs_qemu
def test_hung_monitor_is_an_error_in_time(spec: MachineSpec, vm: Started) -> None:
    os.kill(vm.process.pid, signal.SIGSTOP)
    try:
        with (
            pytest.raises(MachineError, match="no answer within"),
            Qmp(spec.sockets.qmp, "vm-007", timeout=0.3),
        ):
            pass
    finally:
        os.kill(vm.process.pid, signal.SIGCONT)


@needs_qemu
def test_console_copies_input_and_output_and_the_log_has_all(
    spec: MachineSpec, vm: Started, runtime: Path
) -> None:
    wait_for(spec.console_log, "hello")  # printed while nobody was attached
    given, out = runtime / "in", runtime / "out"
    given.write_bytes(b"to the guest\n")
    with given.open("rb") as stdin, out.open("wb") as stdout:
        console.attach(
            spec.sockets.console,
            "vm-007",
            stdin=stdin.fileno(),
            stdout=stdout.fileno(),
            idle=0.5,
        )
    assert out.read_bytes() == b"to the guest\n"
    wait_for(spec.console_log, "to the guest")


@needs_qemu
def test_console_on_a_terminal_is_left_by_its_escape(spec: MachineSpec, vm: Started) -> None:
    wait_for(spec.console_log, "hello")
    master, slave = os.openpty()
    thread = threading.Thread(
        target=console.attach,
        args=(spec.sockets.console, "vm-007"),
        kwargs={"stdin": slave, "stdout": slave},
    )
    thread.start()
    try:
        seen = b""
        while b"\r" not in seen:  # the return that it sends to show a prompt came back
            seen += os.read(master, 100)
        os.write(master, b"a\x03b")  # Ctrl-C belongs to the guest
        while b"b" not in seen:
            seen += os.read(master, 100)
        assert b"a\x03b" in seen
        with pytest.raises(StateError, match="in use"):
            console.attach(spec.sockets.console, "vm-007", stdin=slave, stdout=slave)
    finally:
        os.write(master, console.ESCAPE)
        thread.join(5)
    assert not thread.is_alive()
    os.close(master)
    os.close(slave)


@needs_qemu
def test_early_exit_has_the_words_of_qemu(spec: MachineSpec, runtime: Path) -> None:
    broken = evolve(spec, extra=(*spec.extra, "-device", "no-such-device"))
    with pytest.raises(MachineError, match=r"vm-007.*no-such-device") as caught:
        start(broken, runtime_dir=runtime, stderr=runtime / "vm-007.err")
    assert "no-such-device" in caught.value.log
    assert caught.value.faults == ()
    assert leftovers(runtime) == ()


@needs_qemu
def test_a_known_reason_of_an_early_exit_is_a_hint(spec: MachineSpec, runtime: Path) -> None:
    huge = evolve(spec, memory=Memory(size=90_000_000))
    with pytest.raises(MachineError) as caught:
        start(huge, runtime_dir=runtime, stderr=runtime / "vm-007.err")
    (hint,) = caught.value.faults
    assert hint.startswith("this machine does not have enough memory for the VMs\n  do: ")
    assert leftovers(runtime) == ()


@needs_qemu
def test_a_vm_has_no_privileges_and_no_secrets_of_the_shell(
    spec: MachineSpec, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/tmp/agent")
    started = start(spec, runtime_dir=runtime, stderr=runtime / "vm-007.err")
    try:
        process = Path(f"/proc/{started.process.pid}")
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        environment = (process / "environ").read_bytes().split(b"\0")
    finally:
        end([started.process], grace=2)
    assert int(status["CapEff"], 16) == 0
    assert int(status["CapPrm"], 16) == 0
    assert status["NoNewPrivs"].strip() == "1"
    if sandbox_problem() is None:
        assert status["Seccomp"].strip() == "2"
    names = {word.partition(b"=")[0].decode() for word in environment if word}
    assert "XK8S_CLUSTER" in names
    allowed = {"HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "TMPDIR", "TZ",
               "USER", "XDG_RUNTIME_DIR", "XK8S_CLUSTER"}  # fmt: skip
    assert {name for name in names if not name.startswith("LC_")} <= allowed


@needs_qemu
def test_a_qemu_without_seccomp_is_told_from_one_that_does_not_run(tmp_path: Path) -> None:
    assert sandbox_problem() is None
    for text, expected in (
        ("-sandbox support is not enabled in this QEMU binary", "built without seccomp"),
        ("Could not allocate memory", "does not run a VM"),
    ):
        fake = tmp_path / f"qemu-{len(text)}"
        fake.write_text(f"#!/bin/sh\necho 'qemu: {text}' >&2\nexit 1\n")
        fake.chmod(0o755)
        if "seccomp" in expected:
            assert expected in str(sandbox_problem(str(fake)))
        else:
            with pytest.raises(HostError, match=expected):
                sandbox_problem(str(fake))


@needs_qemu
def test_saved_memory_is_opened_for_reading_alone_and_its_view_is_private(
    spec: MachineSpec, runtime: Path
) -> None:
    ram = runtime / "saved.ram"
    ram.write_bytes(bytes(32 << 20))
    saved = evolve(spec, memory=Memory(size=32, file=ram, saved=True))
    started = start(saved, runtime_dir=runtime, stderr=runtime / "vm-007.err")
    try:
        wait_for(saved.console_log, "hello")  # its kernel was written into that memory
        fds = Path(f"/proc/{started.process.pid}/fd")
        opened = [fd.name for fd in fds.iterdir() if str(fd.readlink()) == str(ram.resolve())]
        flags = [
            int(line.split()[1], 8)
            for name in opened
            for line in (fds.parent / "fdinfo" / name).read_text().splitlines()
            if line.startswith("flags:")
        ]
    finally:
        end([started.process], grace=2)
    assert flags
    assert all(value & os.O_ACCMODE == os.O_RDONLY for value in flags)
    assert ram.read_bytes() == bytes(32 << 20)


def test_missing_program_is_a_host_error(spec: MachineSpec, runtime: Path) -> None:
    with pytest.raises(HostError, match="no-such-qemu"):
        start(evolve(spec, program="no-such-qemu"), runtime_dir=runtime, stderr=runtime / "err")


def test_silent_qemu_is_ended(spec: MachineSpec, runtime: Path) -> None:
    silent = runtime / "silent"
    # What it may do is tried out first (`sandbox_problem`).
    silent.write_text('#!/bin/sh\ncase "$*" in *isa-debug-exit*) exit 33;; esac\nexec sleep 60\n')
    silent.chmod(0o755)
    with pytest.raises(MachineError, match="vm-007"):
        start(
            evolve(spec, program=str(silent)),
            runtime_dir=runtime,
            stderr=runtime / "err",
            timeout=0.2,
        )
    assert leftovers(runtime) == ()


# --- leftovers --------------------------------------------------------------------------


def sleeper(runtime: Path, *argv: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv or ("sleep", "60"), env=cluster_environment(runtime))


def test_stubborn_leftovers_are_killed_and_others_spared(runtime: Path) -> None:
    other = subprocess.Popen(["sleep", "60"], env=cluster_environment(runtime / "other"))
    stubborn = sleeper(runtime, "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    mild = sleeper(runtime)
    try:
        while b"trap" not in Path(f"/proc/{stubborn.pid}/cmdline").read_bytes():
            time.sleep(0.01)
        time.sleep(0.2)  # until the trap is set
        pids = {process.pid for process in leftovers(runtime)}
        assert {stubborn.pid, mild.pid} <= pids
        assert other.pid not in pids
        assert end(leftovers(runtime), grace=0.3) == ()
        end(leftovers(runtime), grace=1)  # the shell's last sleep
        assert leftovers(runtime) == ()
        assert other.poll() is None
    finally:
        for child in (other, stubborn, mild):
            child.kill()
            child.wait()


def test_a_later_process_with_the_same_pid_is_spared(runtime: Path) -> None:
    child = sleeper(runtime)
    try:
        stale = Process(pid=child.pid, started=Process.of(child.pid).started - 1)
        assert not stale.alive
        assert end([stale], grace=0.2) == ()
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()


def test_a_zombie_is_not_alive(runtime: Path) -> None:
    child = sleeper(runtime)
    process = Process.of(child.pid)
    child.kill()
    deadline = time.monotonic() + 5
    while process.alive:
        assert time.monotonic() < deadline
    child.wait()


def test_an_xk8s_inside_is_not_its_own_leftover(
    runtime: Path,
) -> None:
    code = "import sys;from pathlib import Path;from xk8s.util.processes import leftovers;print(leftovers(Path(sys.argv[1])))"  # noqa: E501
    done = subprocess.run(
        [sys.executable, "-c", code, str(runtime)],
        env=cluster_environment(runtime),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "()"


def test_console_of_a_dead_vm_is_a_machine_error(runtime: Path) -> None:
    with pytest.raises(MachineError, match="vm-009"):
        console.attach(runtime / "nothing", "vm-009")
    with filelock.FileLock(f"{runtime / 'nothing'}.lock", timeout=0):
        pass  # the lock was let go
