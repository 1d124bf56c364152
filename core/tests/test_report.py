"""Reports of clusters that run, are half dead, or failed at their start; guests are invented."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from xk8s.checks import CheckContext, NotYet
from xk8s.cli import app
from xk8s.cluster.handle import Cluster
from xk8s.cluster.state import failed_start
from xk8s.cluster.state.record import NodeRecord, Record, write_record
from xk8s.cluster.state.request_file import write_inputs
from xk8s.context import ExecResult
from xk8s.errors import CheckFailed, MachineError, StateError
from xk8s.machine.qemu.agent import AgentError
from xk8s.overlay import Check, Fault, Observation
from xk8s.pki import Keys
from xk8s.planning.plan import Plan
from xk8s.progress import Silent
from xk8s.report import CollectedReport, collect, host
from xk8s.util.paths import state_dir

MakePlan = Callable[..., Plan]

OBSERVATIONS = [
    Observation(name="journal", argv=("journalctl",), searched=True),
    Observation(name="network/routes", argv=("ip", "route")),
    Observation(name="../../evil name", argv=("evil",)),
    Observation(name="log/x.log", argv=("tail",)),
]
FAULT = Fault(
    name="t-fault",
    pattern="the frob (?P<what>.+) is broken",
    cause="frob {what} is broken",
    remedy="mend {what}",
    examples=("the frob x is broken",),
)


class Guests:
    """What the guests answer: bytes, an exception, or (exit code, stderr)."""

    def __init__(self) -> None:
        self.answers: dict[str, object] = {}
        self.dead: set[str] = set()
        self.calls: list[tuple[str, ...]] = []

    def run(self, node: str, argv: Sequence[str]) -> ExecResult:
        self.calls.append((node, *argv))
        answer = self.answers.get(argv[0], b"nothing special\n")
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, tuple):
            code, said = answer
            return ExecResult(exit_code=code, stdout=b"", stderr=said.encode())
        assert isinstance(answer, bytes)
        return ExecResult(exit_code=0, stdout=answer, stderr=b"")


@pytest.fixture
def guests(own_places: Path, monkeypatch: pytest.MonkeyPatch, plan_of: MakePlan) -> Guests:
    """A cluster ``t`` of vm-001 and vm-201, on record as running."""
    guests = Guests()
    plan = plan_of(
        observe=lambda ctx: OBSERVATIONS,
        faults=lambda: [FAULT],
        checks=lambda ctx: [Check(name="frobs", run=lambda _: "3 frobs")],
    )
    state_dir("t").mkdir(parents=True, mode=0o700)
    write_inputs(plan)
    record = Record(
        name="t", phase="running", overlays=plan.ctx.overlays, digest=plan.digest, accel="tcg",
        nodes=(
            NodeRecord(name="vm-001", role="control-plane", pid=1, started=1),
            NodeRecord(name="vm-201", role="router", pid=2, started=1),
        ),
    )  # fmt: skip
    write_record(record)
    consoles = state_dir("t") / "console"
    consoles.mkdir()
    for node in record.nodes:
        (consoles / f"{node.name}.log").write_text("Linux\r\nlogin:\n")
        (consoles / f"{node.name}.qemu.log").write_text("")
    monkeypatch.setattr(Cluster, "plan", plan)
    monkeypatch.setattr(Cluster, "run", lambda _, node, argv, **more: guests.run(node, argv))
    # Its probes take a second each time; the first test has the real ones.
    monkeypatch.setitem(collect.__globals__, "findings", lambda: "ok\n")
    monkeypatch.setattr(Cluster, "alive", lambda _, node: node not in guests.dead)
    return guests


def report(**more: bool) -> tuple[CollectedReport, dict[str, str]]:
    result = collect("t", Silent(), **more)
    return result, {name: data.decode() for name, data in result.contents.files.items()}


def test_it_has_every_part_and_says_what_is_wrong_at_its_top(
    guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(collect.__globals__, "findings", host.findings)
    guests.answers["journalctl"] = b"2026-11-24T05:00:00+00:00 vm x: the frob <a> is broken\n"
    result, files = report()
    for name in ("REPORT.md", "host/versions.json", "host/doctor.txt", "cluster/plan.json",
                 "cluster/request.json", "cluster/record.json", "cluster/checks.json",
                 "nodes/vm-001/console.log", "nodes/vm-001/journal.txt",
                 "nodes/vm-001/network/routes.txt", "nodes/vm-201/journal.txt"):  # fmt: skip
        assert name in files
    assert [hint.fault for hint in result.hints] == ["t-fault"]
    top = files["REPORT.md"]
    assert "frob <a> is broken" in top
    assert "namespaces: " in files["host/doctor.txt"]
    assert "do: mend <a>" in top
    assert "frobs: ok, 3 frobs" in top
    versions = json.loads(files["host/versions.json"])
    assert {"xk8s", "overlays", "python", "qemu", "kernel", "cpu"} <= versions.keys()
    assert json.loads(files["cluster/checks.json"])[0]["name"] == "frobs"


def test_names_from_overlays_stay_below_the_directory(guests: Guests) -> None:
    _, files = report()
    assert "nodes/vm-001/evil-name.txt" in files
    assert "nodes/vm-001/log/x.log" in files
    assert not any(".." in name.split("/") or name.startswith("/") for name in files)


@pytest.mark.parametrize(
    ("answer", "note"),
    [
        (MachineError("vm: the guest agent does not answer: no answer in 10 s"), "does not answer"),
        (TimeoutError("vm: ip route: not done after 60 s"), "not done after 60 s"),
        (AgentError("Failed to execute child process “ip” (No such file)"), "no program"),
        ((1, "RTNETLINK answers: bad"), "exit code 1: RTNETLINK answers: bad"),
    ],
)
def test_what_cannot_be_had_is_noted(guests: Guests, answer: object, note: str) -> None:
    for program in ("journalctl", "ip", "evil", "tail"):
        guests.answers[program] = answer
    result, files = report()
    assert any(note in line for line in result.contents.missing), result.contents.missing
    assert "nodes/vm-001/console.log" in files
    assert note in files["REPORT.md"]


def test_a_silent_agent_is_not_asked_for_everything(guests: Guests) -> None:
    many = [Observation(name=f"o{index}", argv=("slow",)) for index in range(50)]
    guests.answers["slow"] = MachineError("vm: the guest agent does not answer")
    from xk8s.cluster.checks.observe import observe
    from xk8s.cluster.state.record import read_record

    record = read_record("t")
    assert record is not None
    seen = observe(Cluster(record), many)
    assert len(seen) == 100
    assert all("does not answer" in observed.problem for observed in seen)
    assert len(guests.calls) == 4, "two on each of two nodes"


def test_a_node_that_hangs_is_not_waited_for_again_and_again(guests: Guests) -> None:
    many = [Observation(name=f"o{index}", argv=("slow",)) for index in range(50)]
    guests.answers["slow"] = TimeoutError("vm: slow: not done after 60 s")
    from xk8s.cluster.checks.observe import observe
    from xk8s.cluster.state.record import read_record

    record = read_record("t")
    assert record is not None
    assert len(observe(Cluster(record), many)) == 100
    assert len(guests.calls) == 6, "three on each of two nodes"


def test_a_dead_vm_costs_its_own_part_only(guests: Guests) -> None:
    guests.dead.add("vm-001")
    console = state_dir("t") / "console" / "vm-001.log"
    console.write_text("Kernel panic - not syncing: Fatal exception in interrupt\n")
    result, files = report()
    assert "nodes/vm-201/journal.txt" in files
    assert "nodes/vm-001/journal.txt" not in files
    assert [hint.fault for hint in result.hints] == ["kernel-panic"]
    assert "vm-001 (control-plane): **the VM does not exist**" in files["REPORT.md"]
    assert (
        sum("vm-001 is dead: xk8s node start vm-001" in line for line in result.contents.missing)
        == 1
    )


def test_a_plan_that_cannot_be_made_again_is_noted(
    guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Cluster) -> Plan:
        raise StateError("there is no overlay 'gone'")

    monkeypatch.setattr(Cluster, "plan", property(broken))
    result, files = report()
    assert any("there is no overlay 'gone'" in line for line in result.contents.missing)
    assert "nodes/vm-001/console.log" in files


def test_a_damaged_record_leaves_its_files(guests: Guests) -> None:
    (state_dir("t") / "record.json").write_text("{ half")
    _, files = report()
    assert files["cluster/record.json"] == "{ half"
    assert "nodes/vm-001/console.log" in files


def test_a_check_that_fails_is_quick_and_no_error(
    guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_: CheckContext) -> str:
        raise NotYet("the frob z is broken")

    checks = (Check(name="never", run=never), Check(name="later", run=lambda _: "no"))
    monkeypatch.setattr(Cluster, "plan", evolve(Cluster.plan, checks=checks))
    monkeypatch.setitem(collect.__globals__, "CHECK_SECONDS", 0.0)
    result, files = report()
    assert [check["name"] for check in result.checks] == ["never"]
    assert [hint.cause for hint in result.hints] == ["frob z is broken"]
    assert "never: **failed**" in files["REPORT.md"]
    assert "(`xk8s check` gives it 300 s)" in files["REPORT.md"]


def test_no_secret_from_any_source_gets_in(guests: Guests) -> None:
    keys = Keys(state_dir("t") / "pki")
    keys.ca("ca")
    keys.signing_key("sa")
    pems = [path.read_text() for path in sorted((state_dir("t") / "pki").glob("*.key"))]
    assert len(pems) == 2
    jwt = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl"
    words = ["hunter2hunter2", "k3j9x2.0123456789uvwxyz", jwt]
    poison = "\n".join([*pems, f"token: {jwt}", f"password={words[0]}", words[1], ""])
    for program in ("journalctl", "ip"):
        guests.answers[program] = poison.encode()
    guests.answers["evil"] = (1, poison)
    state = state_dir("t")
    for path in [*(state / "console").iterdir(), state / "request.json", state / "plan.json"]:
        path.write_text(path.read_text() + poison)
    (state / "kubeconfig").write_text("client-key-data: c2VjcmV0LWt1YmVjb25maWc=\n")
    (state.parent.parent / "traceback-20260101-000000-1.log").write_text(poison)

    def leaky(_: CheckContext) -> str:
        raise CheckFailed(poison)

    with pytest.MonkeyPatch.context() as patch:
        plan = evolve(Cluster.plan, checks=(Check(name="leaky", run=leaky),))
        patch.setattr(Cluster, "plan", plan)
        result, files = report()
    assert "leaky" in files["REPORT.md"]
    pieces = [line for pem in pems for line in pem.splitlines() if not line.startswith("-----")]
    assert len(pieces) > 20
    with tarfile.open(fileobj=io.BytesIO(result.contents.archive(0.0))) as archive:
        for member in archive.getmembers():
            file = archive.extractfile(member)
            assert file is not None
            text = file.read().decode()
            for secret in [*words, *pieces, "c2VjcmV0LWt1YmVjb25maWc="]:
                assert secret not in text, f"{member.name} has {secret}"
            assert "PRIVATE KEY" not in text, member.name
    assert "nodes/vm-001/journal.txt" in files
    assert "kubeconfig" not in " ".join(files)
    assert not any(secret in str(result.hints) for secret in words)


def test_keys_of_a_rotation_that_is_under_way_are_known(guests: Guests) -> None:
    """`ca rotate` keeps the next keys in pki.new, and the last ones in pki.old."""
    lines = []
    for name in ("pki", "pki.new", "pki.old"):
        Keys(state_dir("t") / name).ca("ca")
        pem = (state_dir("t") / name / "ca.key").read_text()
        lines.append("".join(pem.splitlines()[1:-1])[10:40])
    guests.answers["journalctl"] = "\n".join(f"a log: {line}!" for line in lines).encode()
    _, files = report(checks=False)
    assert files["nodes/vm-001/journal.txt"].count("[removed by xk8s]") == 3
    assert not any(line in text for line in lines for text in files.values())


def test_files_are_bounded(guests: Guests, monkeypatch: pytest.MonkeyPatch) -> None:
    from xk8s.report import contents

    monkeypatch.setattr(contents, "MAX_FILE", 1000)
    guests.answers["journalctl"] = b"".join(b"line %d\n" % index for index in range(1000))
    _, files = report()
    text = files["nodes/vm-001/journal.txt"]
    assert text.startswith("[the first ")
    assert text.endswith("line 999\n")
    assert len(text) < 1100


def test_the_archive_has_one_directory_and_the_same_layout_each_time(guests: Guests) -> None:
    result, _ = report()
    made = result.contents.archive(1700000000.0)
    assert made == result.contents.archive(1700000000.0)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(made))) as archive:
        names = archive.getnames()
        assert names == sorted(names)
        assert {name.split("/")[0] for name in names} == {"xk8s-report-t"}
        assert {member.mode for member in archive.getmembers()} == {0o600}


def test_the_command_writes_a_private_file_and_no_other(
    guests: Guests, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert app.run(["--name", "t", "report", "-q"]) == 0
    (path,) = tmp_path.glob("xk8s-report-t-*.tar.gz")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.name in capfd.readouterr().out
    target = tmp_path / "mine.tar.gz"
    target.write_text("precious")
    assert app.run(["--name", "t", "report", "-q", "-o", str(target)]) == 2
    assert target.read_text() == "precious"
    assert app.run(["--name", "t", "report", "-q", "-o", str(tmp_path / "no" / "x")]) == 2
    capfd.readouterr()
    other = tmp_path / "other.tar.gz"
    assert app.run(["--name", "t", "report", "-q", "--json", "-o", str(other)]) == 0
    told: dict[str, Any] = json.loads(capfd.readouterr().out)
    assert told["path"] == str(other)
    assert "REPORT.md" in told["files"]


def test_no_cluster_and_no_failure_is_told(
    guests: Guests, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert app.run(["--name", "none", "report", "-q"]) == StateError.exit_code
    error = capfd.readouterr().err
    assert "there is no cluster 'none', and no failed start of it" in error
    assert "there are: t" in error
    assert list(tmp_path.glob("*.tar.gz")) == []


def test_a_failed_start_keeps_its_consoles_and_no_keys(guests: Guests) -> None:
    Keys(state_dir("t") / "pki").ca("ca")
    assert not failed_start.keep("t", KeyboardInterrupt())
    assert not failed_start.keep("t", CheckFailed("a check"))
    error = MachineError("vm-001: the VM no longer exists", where="w", hint="h", log="panic!")
    assert failed_start.keep("t", error)
    kept = failed_start.failure_dir("t")
    assert kept.stat().st_mode & 0o777 == 0o700
    assert not list(kept.rglob("*.key"))
    shutil.rmtree(state_dir("t"))
    result, files = report()
    assert "vm-001: the VM no longer exists" in files["REPORT.md"]
    assert "No record says that it is running" in files["REPORT.md"]
    assert "nodes/vm-001/console.log" in files
    assert "panic!" in files["cluster/error.txt"]
    assert result.checks == ()
    failed_start.forget("t")
    assert not kept.parent.exists()
