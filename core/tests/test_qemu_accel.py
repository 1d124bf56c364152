"""KVM or TCG."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from xk8s.errors import HostError
from xk8s.machine.qemu import accelerator
from xk8s.machine.qemu.accelerator import PROGRAM, cpu_has_virtualization, decide, trial

needs_qemu = pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="QEMU is not installed")


def pretend(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int], problem: str | None
) -> None:
    monkeypatch.setattr(accelerator, "qemu_version", lambda program: version)
    monkeypatch.setattr(accelerator, "kvm_problem", lambda program: problem)


def script(directory: Path, text: str) -> str:
    path = directory / "qemu"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_a_program_is_asked_for_its_version_once(own_places: Path, tmp_path: Path) -> None:
    said = tmp_path / "said"
    text = f'echo >>{said}; echo "QEMU emulator version %s (Debian 1:%s+dfsg-0)"'
    program = script(tmp_path, text % ("10.0.2", "10.0.2"))
    assert [accelerator.qemu_version(program) for _ in range(3)] == [(10, 0, 2)] * 3
    assert said.read_text() == "\n"
    script(tmp_path, text % ("10.1.0", "10.1.0"))  # an upgrade
    assert accelerator.qemu_version(program) == (10, 1, 0)
    script(tmp_path, "echo nothing of use")
    with pytest.raises(HostError, match="does not report its version"):
        accelerator.qemu_version(program)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu vmx sse", True),
        ("fpu svm", True),
        ("fpu svme_chk hypervisor", False),
        ("", False),
    ],
)
def test_cpu_flag_is_a_whole_word(flags: str, expected: bool) -> None:
    text = f"processor\t: 0\nmodel name\t: vmx svm\nflags\t\t: {flags}\nvmx flags\t: vnmi\n"
    assert cpu_has_virtualization(text) is expected


def test_kvm_when_flag_and_trial_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, (7, 2, 0), None)
    chosen = decide("auto")
    assert (chosen.name, chosen.max_cpus, chosen.notes) == ("kvm", None, ())
    assert decide("tcg").name == "tcg"


def test_new_qemu_emulates_as_many_cpus_as_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, (10, 0, 2), "the CPU flag is missing")
    chosen = decide("auto")
    assert (chosen.name, chosen.cpus(4), chosen.notes) == ("tcg", 4, ())
    assert "the CPU flag is missing" in chosen.reason


@pytest.mark.parametrize("version", [(10, 0, 2), (7, 2, 19)])
def test_emulated_cpus_do_not_call_copying_by_the_byte_fast(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int]
) -> None:
    pretend(monkeypatch, version, "the CPU flag is missing")
    (model,) = [word for word in decide("auto").args if word.startswith("max")]
    assert {"erms=off", "fsrm=off"} <= set(model.split(","))


def test_old_qemu_is_tamed_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, (7, 2, 19), "the trial guest failed")
    chosen = decide("auto")
    assert chosen.cpus(4) == 1
    assert any("cx16=off" in word for word in chosen.args)
    assert "QEMU 7.2.19" in chosen.notes[0]


@pytest.mark.parametrize("problem", ["the CPU flag is missing", "the trial guest failed: abort"])
def test_asking_for_unusable_kvm_says_which_test_failed(
    monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    pretend(monkeypatch, (10, 0, 2), problem)
    with pytest.raises(HostError, match=problem) as caught:
        decide("kvm")
    assert "--accel tcg" in caught.value.hint


def test_missing_qemu_is_a_host_error() -> None:
    with pytest.raises(HostError, match="no-such-qemu is missing"):
        decide("auto", program="no-such-qemu")


@needs_qemu
def test_trial_guest_runs_under_tcg() -> None:
    assert trial(("-accel", "tcg")) is None


@needs_qemu
def test_trial_fails_with_the_words_of_qemu() -> None:
    problem = trial(("-accel", "nonsense"))
    assert problem is not None
    assert "nonsense" in problem


def test_trial_that_hangs_is_ended(tmp_path: Path) -> None:
    problem = trial((), program=script(tmp_path, "exec sleep 30"), seconds=0.2)
    assert problem is not None
    assert "did not run" in problem


def test_trial_that_exits_without_having_run_fails(tmp_path: Path) -> None:
    assert trial((), program=script(tmp_path, "exit 0")) == "the trial guest failed: exit 0"


@needs_qemu
def test_here_and_now_a_decision_is_made() -> None:
    assert decide("auto").name in {"kvm", "tcg"}
