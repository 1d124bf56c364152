"""Verbs that talk to a cluster, against one that is not there."""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from xk8s.checks import CheckContext, NotYet
from xk8s.cli import app
from xk8s.cli.session import CliSession
from xk8s.cli.verbs import down
from xk8s.cluster.change import reboots
from xk8s.cluster.state.record import NodeRecord, Record
from xk8s.context import ExecResult
from xk8s.errors import CheckFailed, MachineError, UsageError
from xk8s.machine.qemu.messages import Kind, encode
from xk8s.machine.qemu.session import GuestSession, NoProgramError, Request
from xk8s.names.registry import Registry
from xk8s.overlay import Check


class FakeCluster:
    """A cluster of two nodes that answers commands from a table."""

    name = "xk8s"

    def __init__(self, root: Path) -> None:
        nodes = [
            NodeRecord(
                name="vm-001", role="control-plane", pid=1, started=1, forwards={"api": 18080}
            ),
            NodeRecord(name="vm-201", role="router", pid=2, started=1),
        ]
        self.record = Record(
            name="xk8s", phase="running", overlays=("debian",), digest="d", accel="tcg",
            nodes=tuple(nodes),
        )  # fmt: skip
        self.root = root
        self.calls: list[tuple[str, tuple[str, ...], bytes]] = []
        self.answers: list[ExecResult | BaseException] = []
        ctx = type("Context", (), {"overlays": ()})()
        self.plan = type("Plan", (), {"checks": (), "ctx": ctx, "registry": Registry({})})()

    def run(
        self, node: str, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0
    ) -> ExecResult:
        self.record.node(node)
        self.calls.append((node, tuple(argv), stdin))
        answer = self.answers.pop(0) if self.answers else result()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    @contextmanager
    def session(self, node: str, request: Request) -> Iterator[GuestSession]:
        """What the guest answers is in the socket already; nothing reads from it."""
        done = self.run(node, request.argv)
        messages = [
            encode(Kind.OUTPUT, done.stdout),
            encode(Kind.ERRORS, done.stderr),
            encode(Kind.EXIT, bytes([done.exit_code])),
        ]
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(b"".join(messages))
            ours.setblocking(False)
            yield GuestSession(ours, node)

    def console_log(self, node: str) -> Path:
        self.record.node(node)
        return self.root / f"{node}.log"

    absent: ClassVar[dict[str, str]] = {}

    def without(self, absent: Collection[str]) -> FakeCluster:
        assert not absent
        return self

    def check_present(self, *nodes: str) -> None:
        pass

    def absence(self, node: str) -> None:
        pass

    @property
    def checks(self) -> CheckContext:
        return CheckContext(access=self)  # type: ignore[arg-type]

    def status(self) -> dict[str, Any]:
        node = {
            "name": "vm-001", "role": "control-plane", "running": True, "state": "running",
            "pid": 1, "cpus": 2, "memory_mib": 2048, "host_memory_mib": 900,
            "addresses": ["192.168.1.1/24"], "forwards": {"api": 18080},
        }  # fmt: skip
        return {"name": "xk8s", "phase": "running", "accel": "tcg", "overlays": ["debian"],
                "digest": "d", "seconds": {}, "nodes": [node]}  # fmt: skip


def result(out: str = "", err: str = "", code: int = 0) -> ExecResult:
    return ExecResult(exit_code=code, stdout=out.encode(), stderr=err.encode())


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    fake = FakeCluster(tmp_path)
    monkeypatch.setattr(CliSession, "cluster", lambda self: fake)
    monkeypatch.setattr(CliSession, "cluster_as_it_is", lambda self: fake)
    monkeypatch.setattr(reboots, "lacking_nodes", lambda *_, **__: ())
    return fake


def test_exec_passes_streams_and_exit_code(
    cluster: FakeCluster, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    cluster.answers = [ExecResult(exit_code=3, stdout=b"\xff out", stderr=b"err")]
    assert app.run(["exec", "-n", "vm-001", "--", "ip", "-br", "link", "--name", "x"]) == 3
    assert cluster.calls == [("vm-001", ("ip", "-br", "link", "--name", "x"), b"")]
    assert capfdbinary.readouterr() == (b"\xff out", b"err")


def test_exec_works_without_dashes(cluster: FakeCluster) -> None:
    assert app.run(["exec", "-n", "vm-201", "ip", "-6", "route"]) == 0
    assert cluster.calls[0][1] == ("ip", "-6", "route")


def test_exec_errors(cluster: FakeCluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.answers = [MachineError("gone")]
    assert app.run(["exec", "-n", "vm-001", "true"]) == 8
    assert "gone" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (errno.ENOENT, 127, "xk8s: vm-001 has no program 'x'\n"),
        (errno.EACCES, 126, "xk8s: vm-001 cannot run 'x': what the guest says\n"),
    ],
)
def test_exec_of_a_program_that_is_not_there_or_cannot_run(
    cluster: FakeCluster, capfd: pytest.CaptureFixture[str], number: int, code: int, said: str
) -> None:
    cluster.answers = [NoProgramError("what the guest says", number)]
    assert app.run(["exec", "-n", "vm-001", "x"]) == code
    assert capfd.readouterr().err == said


def test_exec_in_an_unknown_node(cluster: FakeCluster, capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run(["exec", "-n", "vm-009", "true"]) == 10
    assert "it has vm-001, vm-201" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("vm-001:/a", "vm-201:/b"), "one side has to be this machine, the other one a node"),
        (("./a", "./b"), "one side has to be this machine, the other one a node"),
        (("/nowhere/file", "vm-001:/b"), "/nowhere/file: no such file or directory"),
        (("vm-001:/b", "/nowhere/b"), "/nowhere/b: there is no such directory"),
        (("vm-001:/a", "vm-001:/b", "/nowhere"), "/nowhere: not a directory of this machine"),
    ],
)
def test_cp_refuses_what_cannot_be_meant(
    cluster: FakeCluster, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert app.run(["cp", *words]) == UsageError.exit_code
    assert said in capfd.readouterr().err


def test_cp_to_an_unknown_node(cluster: FakeCluster, capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run(["cp", "/etc/hosts", "vm-009:/tmp/"]) == 10
    assert "it has vm-001, vm-201" in capfd.readouterr().err


# --- logs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "node", "unit"),
    [
        ([], "vm-001", None),
        (["vm-201"], "vm-201", None),
        (["kubelet"], "vm-001", "kubelet"),
        (["vm-201", "frr"], "vm-201", "frr"),
    ],
)
def test_logs_of_nodes_and_units(
    cluster: FakeCluster,
    words: list[str],
    node: str,
    unit: str | None,
    capfd: pytest.CaptureFixture[str],
) -> None:
    cluster.answers = [result("Nov 23 line\n-- cursor: s=1;i=2\n")]
    assert app.run(["logs", *words]) == 0
    assert capfd.readouterr().out == "Nov 23 line\n"
    called, argv, _ = cluster.calls[0]
    assert called == node
    assert (f"--unit={unit}" in argv) is (unit is not None)


def test_logs_of_an_unknown_unit_name_the_nearest(
    cluster: FakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster.answers = [
        result("-- No entries --\n"),
        result("Id=kublet.service\nLoadState=not-found\n"),
        result("kubelet.service loaded active running x\nrescue.service loaded inactive dead y\n"),
        result("kubelet.service loaded active running x\netcd.service loaded active running y\n"),
    ]
    assert app.run(["logs", "vm-001", "kublet"]) == 2
    err = capfd.readouterr().err
    assert "vm-001 has no unit 'kublet'" in err
    assert "did you mean 'kubelet'?" in err


def test_logs_follow_goes_on_behind_the_cursor(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from xk8s.cli.verbs import logs

    monkeypatch.setattr(logs, "_POLL_SECONDS", 0)
    cluster.answers = [
        result("one\n-- cursor: c1\n"),
        result("two\n-- cursor: c2\n"),
        KeyboardInterrupt(),
    ]
    assert app.run(["logs", "-f"]) == 130
    assert capfd.readouterr() == ("one\ntwo\n", "")
    assert "--after-cursor=c1" in cluster.calls[1][1]
    assert "--after-cursor=c2" in cluster.calls[2][1]


def test_logs_console_needs_no_guest(
    cluster: FakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster.console_log("vm-001").write_bytes(b"one\ntwo\xff\nthree\n")
    assert app.run(["logs", "vm-001", "console", "-n", "2"]) == 0
    assert capfd.readouterr().out == "two\ufffd\nthree\n"
    assert cluster.calls == []
    assert app.run(["logs", "vm-201", "console"]) == 10


# --- status, check, down ----------------------------------------------------------------


def test_status_for_people_and_programs(
    cluster: FakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    assert app.run(["status"]) == 0
    out = capfd.readouterr().out.splitlines()
    assert out[0] == "cluster 'xk8s': running, tcg, overlays debian"
    assert out[2].split() == [
        "vm-001", "control-plane", "running", "2", "900", "of", "2048", "MiB", "192.168.1.1",
        "api=127.0.0.1:18080",
    ]  # fmt: skip
    assert app.run(["status", "--json"]) == 0
    status = cluster.status()
    status["nodes"][0]["rebooted"] = False
    assert json.loads(capfd.readouterr().out) == status


def test_a_guest_that_rebooted_is_told(
    cluster: FakeCluster, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reboots, "lacking_nodes", lambda *_, **__: ("vm-001",))
    assert app.run(["status"]) == 0
    assert "vm-001 has rebooted and lacks what was applied before" in capfd.readouterr().err
    assert app.run(["status", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["nodes"][0]["rebooted"] is True
    assert app.run(["check"]) == CheckFailed.exit_code
    assert "vm-001 has rebooted and lacks what was applied" in capfd.readouterr().err


def test_check_stops_at_the_first_failure_with_its_log(
    cluster: FakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    def never(_: CheckContext) -> str:
        raise NotYet("0 of 2 nodes")

    cluster.plan.checks = (
        Check(name="api", run=lambda _: "answers"),
        Check(name="nodes", run=never, timeout=0, interval=0, explain=lambda _: "kubelet: no CNI"),
        Check(name="dns", run=lambda _: "never run"),
    )
    assert app.run(["check"]) == CheckFailed.exit_code
    out, err = capfd.readouterr()
    assert "ok   api: answers" in out
    assert "FAIL nodes: not met after 0 s; last seen: 0 of 2 nodes" in out
    assert "dns" not in out
    assert "  | kubelet: no CNI" in err


def test_check_of_some_by_name_or_first_word(
    cluster: FakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    names = ("api", "service account", "externalip 10.0.0.2", "externalip 1000::2")
    cluster.plan.checks = tuple(Check(name=name, run=lambda _: "fine") for name in names)

    def ran(*words: str) -> list[str]:
        assert app.run(["check", "--json", *words]) == 0
        return [check["name"] for check in json.loads(capfd.readouterr().out)]

    assert ran() == list(names)
    assert ran("service account") == ["service account"]
    assert ran("externalip", "api") == ["api", "externalip 10.0.0.2", "externalip 1000::2"]
    assert app.run(["check", "--list"]) == 0
    assert capfd.readouterr().out.splitlines() == list(names)
    assert app.run(["check", "--list", "externalip"]) == 0
    assert capfd.readouterr().out.splitlines() == list(names[2:])
    assert app.run(["check", "extern"]) == 2
    assert "there is no check 'extern'" in capfd.readouterr().err
    assert app.run(["check", "--faults", "api"]) == 2


def test_a_log_that_cannot_be_had_is_no_reason_to_say_nothing(
    cluster: FakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    def never(_: CheckContext) -> str:
        raise NotYet("0 of 2 nodes")

    def explain(context: CheckContext) -> str:
        return context.ok("vm-001", "journalctl")

    cluster.answers = [MachineError("vm-001: the guest agent does not answer")]
    cluster.plan.checks = (Check(name="nodes", run=never, timeout=0, explain=explain),)
    assert app.run(["check"]) == CheckFailed.exit_code
    err = capfd.readouterr().err
    assert "not met after 0 s; last seen: 0 of 2 nodes" in err
    assert "its log could not be read: vm-001: journalctl: vm-001: the guest agent" in err


def test_faults_are_hints_below_the_log(
    cluster: FakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    def never(_: CheckContext) -> str:
        raise CheckFailed("it is broken", log="kernel: Out of memory: Killed process 7 (x)")

    cluster.console_log("vm-201").write_text(
        "\x1b[31mKernel panic - not syncing: Fatal exception\x1b[0m\n"
    )
    cluster.plan.checks = (Check(name="nodes", run=never),)
    assert app.run(["check"]) == CheckFailed.exit_code
    err = capfd.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("  hint: ")]
    assert len(lines) == 2
    assert "  | kernel: Out of memory" in err
    assert "seen: vm-201: console: Kernel panic - not syncing: Fatal exception\n" in err
    assert "\x1b" not in err
    assert app.run(["check", "--json"]) == CheckFailed.exit_code
    told = json.loads(capfd.readouterr().err.splitlines()[-1])
    assert len(told["error"]["hints"]) == 2


def test_faults_of_a_cluster_that_runs(
    cluster: FakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    assert app.run(["check", "--faults"]) == 0
    assert capfd.readouterr().out == "no known faults in the logs of vm-001, vm-201\n"
    cluster.console_log("vm-001").write_text("xk8s-initramfs: cannot stack the layers a:b\n")
    assert app.run(["check", "--faults", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert [fault["fault"] for fault in found["faults"]] == ["initramfs"]
    assert found["missing"] == []


def test_down_of_nothing_is_fine_and_all_finds_half_started_ones(
    own_places: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert app.run(["down"]) == 0
    assert "was not up" in capfd.readouterr().err
    (own_places / "state/clusters/one").mkdir(parents=True)
    (own_places / "runtime/two").mkdir(parents=True)
    assert down.names() == ["one", "two"]
    assert app.run(["down", "--all", "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")
    assert down.names() == []


def test_two_names_for_one_cluster_option(
    own_places: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XK8S_NAME", "from-env")
    for words, name in (
        (["status"], "from-env"),
        (["--name", "group", "status"], "group"),
        (["--name", "group", "status", "--name", "verb"], "verb"),
    ):
        assert app.run(words) == 10
        assert f"there is no cluster {name!r}" in capfd.readouterr().err


# --- from options to a request ----------------------------------------------------------


def test_options_become_settings() -> None:
    import click
    from xk8s.cli.session import pass_session, plan_options

    seen = []

    @click.command()
    @plan_options
    @pass_session
    def command(session: CliSession) -> None:
        seen.append(session.request(("debian",)))

    command.main(
        ["--nodes", "3", "--memory", "2048", "--memory", "router=128,vm-002=512", "-s", "a.b=c",
         "--cpus", "vm-001=4", "--ip-family", "dual"],
        standalone_mode=False,
        obj=CliSession(),
    )  # fmt: skip
    assert seen[0].overlays == ("debian",)
    assert set(seen[0].sets) == {
        "cluster.nodes=3",
        "cluster.ip_family=dual",
        "a.b=c",
        "cluster.memory=control-plane=2048,worker=2048,router=128,vm-002=512",
        "cluster.cpus=vm-001=4",
    }


def test_output_of_a_table_without_trailing_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    from xk8s.verbs import table

    table([("a", "bb", "x"), ("aaa", "b", "")])
    assert capsys.readouterr().out == "a    bb  x\naaa  b\n"


def test_artifacts_tells_provenance_and_locks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from xk8s.sources import Artifact, OwnDirectory

    own = tmp_path / "own"
    own.mkdir()
    (own / "tool").write_bytes(b"#!/bin/sh\n")
    artifact = Artifact(
        name="tools", version="1", members=("tool",), sources=(OwnDirectory(path=str(own)),)
    )
    fake = type("Plan", (), {"artifacts": (artifact,)})()
    monkeypatch.setattr("xk8s.planning.make_plan.make_plan", lambda request, **_: fake)
    monkeypatch.setenv("XK8S_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert app.run(["artifacts", "--fetch"]) == 2
    capfd.readouterr()
    assert app.run(["artifacts", "debian", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"artifacts": [], "missing": ["tools 1"]}
    assert app.run(["artifacts", "debian", "--fetch", "--json"]) == 0
    (found,) = json.loads(capfd.readouterr().out)["artifacts"]
    assert found["members"][0]["member"] == "tool"
    assert found["members"][0]["source"] == "own directory"
    assert app.run(["artifacts"]) == 0
    assert "tools 1" in capfd.readouterr().out


@pytest.mark.parametrize("words", [("apply",), ("watch",), ("scale", "--nodes", "2")])
def test_verbs_that_change_a_cluster_take_the_same_options_for_checks(
    words: tuple[str, ...],
) -> None:
    with pytest.raises(UsageError, match="--all-checks and --no-check are opposites"):
        app.xk8s.main([*words, "--all-checks", "--no-check"], standalone_mode=False)
