"""`xk8s logs` of several nodes, units by short names, files and pods; guests are invented."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from xk8s.cli import app
from xk8s.cli.session import CliSession
from xk8s.cli.verbs import logs
from xk8s.cluster.handle import Cluster
from xk8s.cluster.state.record import NodeRecord, Record
from xk8s.context import ExecResult
from xk8s.overlay import NODE_ROLES, LogFiles
from xk8s.planning.plan import Plan

Out = pytest.CaptureFixture[str]


class Guests:
    """Journals in the form of journalctl; systemctl knows ``units``; other programs really run,
    below a directory per node in place of the guest's root.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.journals: dict[tuple[str, str], str] = {}
        self.units = {"vm-001": ["kubelet", "kube-apiserver", "containerd"], "vm-002": ["kubelet"]}
        self.aliases = {"cri": "containerd"}
        self.calls: list[tuple[str, ...]] = []

    def run(self, node: str, argv: Sequence[str]) -> ExecResult:
        self.calls.append((node, *argv))
        if argv[0] == "journalctl":
            unit = next((a.partition("=")[2] for a in argv if a.startswith("--unit=")), "")
            text = self.journals.get((node, unit), "-- No entries --\n")
            return answer(text if "No entries" in text else f"{text}-- cursor: c\n")
        if argv[:2] == ["systemctl", "show"]:
            name = self.aliases.get(argv[-1], argv[-1])
            there = name in self.units.get(node, ())
            return answer(f"Id={name}.service\nLoadState={'loaded' if there else 'not-found'}\n")
        if argv[:2] == ["systemctl", "list-units"]:
            return answer("".join(f"{unit}.service loaded active running x\n"
                                  for unit in self.units.get(node, ())))  # fmt: skip
        here = str(self.root / node)
        words = [word if word.startswith("/bin/") else word.replace("/var", f"{here}/var")
                 for word in argv]  # fmt: skip
        done = subprocess.run(words, capture_output=True, check=False)
        out = done.stdout.replace(here.encode(), b"")
        return ExecResult(exit_code=done.returncode, stdout=out, stderr=done.stderr)


def answer(text: str) -> ExecResult:
    return ExecResult(exit_code=0, stdout=text.encode(), stderr=b"")


@pytest.fixture
def guests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan_of: Callable[..., Plan]) -> Guests:
    guests = Guests(tmp_path)
    nodes = (("vm-001", "control-plane"), ("vm-002", "worker"), ("vm-201", "router"))
    record = Record(
        name="xk8s", phase="running", overlays=(), digest="d", accel="tcg",
        nodes=tuple(NodeRecord(name=name, role=role, pid=1, started=1) for name, role in nodes),
    )  # fmt: skip
    files = LogFiles(
        kind="pod",
        directory="/var/log/pods",
        paths=("/var/log/pods/{scope}_{name}_*/{part}/*.log",),
        roles=NODE_ROLES,
    )
    plan = plan_of(log_files=lambda ctx: [files])
    for node in ("vm-001", "vm-002"):
        (tmp_path / node / "var/log/pods").mkdir(parents=True)
    monkeypatch.setattr(CliSession, "cluster", lambda _: Cluster(record, plan))
    monkeypatch.setattr(Cluster, "alive", lambda *_: True)
    monkeypatch.setattr(Cluster, "run", lambda _, node, argv, **more: guests.run(node, argv))
    monkeypatch.setattr(Cluster, "console_log", lambda _, node: tmp_path / f"{node}.log")
    monkeypatch.setattr(logs, "_POLL_SECONDS", 0)
    return guests


def pod(guests: Guests, node: str, name: str, container: str, *lines: str) -> Path:
    directory = guests.root / node / "var/log/pods" / f"{name}_1234" / container
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "0.log"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_all_nodes_are_one_log_in_the_order_of_time(guests: Guests, capfd: Out) -> None:
    guests.journals["vm-001", ""] = (
        "2026-11-24T05:00:01+00:00 vm-001 a: one\n  more of one\n"
        "2026-11-24T05:00:03+00:00 vm-001 a: three\n"
    )
    guests.journals["vm-201", ""] = "2026-11-24T05:00:02+00:00 vm-201 b: two\n"
    assert app.run(["logs", "-A"]) == 0
    assert [line.split(": ")[-1] for line in capfd.readouterr().out.splitlines()] == [
        "one", "  more of one", "two", "three",
    ]  # fmt: skip
    assert app.run(["logs", "vm-001", "vm-201"]) == 0
    assert "vm-201 b: two" in capfd.readouterr().out
    assert app.run(["logs", "-A", "vm-001"]) == 2


def test_one_node_has_the_plain_form(guests: Guests, capfd: Out) -> None:
    guests.journals["vm-002", ""] = "Nov 24 05:00:01 vm-002 a: one\n"
    assert app.run(["logs", "vm-002"]) == 0
    assert capfd.readouterr().out == "Nov 24 05:00:01 vm-002 a: one\n"
    assert "--output=short" in guests.calls[0]


@pytest.mark.parametrize(("word", "unit"), [("apiserver", "kube-apiserver"), ("cri", "containerd")])
def test_units_by_short_name_and_alias(guests: Guests, capfd: Out, word: str, unit: str) -> None:
    guests.journals["vm-001", unit] = f"Nov 24 x {unit}[1]: it\n"
    assert app.run(["logs", word]) == 0
    assert capfd.readouterr().out == f"Nov 24 x {unit}[1]: it\n"


def test_a_unit_that_only_one_node_has(guests: Guests, capfd: Out) -> None:
    guests.journals["vm-001", "kube-apiserver"] = "2026-11-24T05:00:01+00:00 vm-001 k: it\n"
    assert app.run(["logs", "-A", "kube-apiserver"]) == 0
    assert capfd.readouterr().out.endswith("it\n")
    assert app.run(["logs", "-A", "nothing"]) == 2
    assert "has no unit 'nothing'" in capfd.readouterr().err


def test_since_grep_and_lines_are_journalctls(guests: Guests, capfd: Out) -> None:
    guests.journals["vm-001", ""] = "Nov 24 line\n"
    assert app.run(["logs", "--since", "5m", "-g", "frob"]) == 0
    assert {"--since=-5m", "--grep=frob", "--lines=all"} <= set(guests.calls[-1])
    assert app.run(["logs", "--since", "2026-11-24 10:00", "-n", "7"]) == 0
    assert {"--since=2026-11-24 10:00", "--lines=7"} <= set(guests.calls[-1])
    assert app.run(["logs"]) == 0
    assert "--lines=200" in guests.calls[-1]


def test_consoles_of_several_nodes_and_what_qemu_said(guests: Guests, capfd: Out) -> None:
    for node in ("vm-001", "vm-002", "vm-201"):
        (guests.root / f"{node}.log").write_text(f"{node} boots\nlogin\n")
    (guests.root / "vm-002.qemu.log").write_text("qemu: it hurts\n")
    assert app.run(["logs", "-A", "console", "-n", "1"]) == 0
    out = capfd.readouterr().out
    assert out.count("==> vm-") == 3
    assert "boots" not in out
    assert app.run(["logs", "vm-002", "qemu"]) == 0
    assert capfd.readouterr().out == "qemu: it hurts\n"
    assert app.run(["logs", "vm-002", "console", "-g", "BOOTS"]) == 0
    assert capfd.readouterr().out == ""
    assert app.run(["logs", "vm-002", "console", "-g", "boots"]) == 0
    assert capfd.readouterr().out == "vm-002 boots\n"
    assert app.run(["logs", "console", "--since", "5m"]) == 2
    assert app.run(["logs", "console", "-g", "("]) == 2


def test_a_file_of_the_guest(guests: Guests, capfd: Out) -> None:
    path = guests.root / "vm-001/var/log/x y.log"
    path.write_text("one\ntwo\nthree\n")
    assert app.run(["logs", "/var/log/x y.log", "-n", "2"]) == 0
    assert capfd.readouterr().out == "==> vm-001: /var/log/x y.log <==\ntwo\nthree\n"
    assert app.run(["logs", "/var/log/none"]) == 2
    assert "there is no such log" in capfd.readouterr().err


def test_pods_wherever_they_run(guests: Guests, capfd: Out) -> None:
    pod(guests, "vm-001", "kube-system_dns", "dns", "2026-11-24T05:00:00Z stdout F hello")
    pod(guests, "vm-002", "default_web", "app", "2026-11-24T05:00:00Z stdout F app")
    pod(guests, "vm-002", "default_web", "side", "2026-11-24T05:00:00Z stdout F side")
    assert app.run(["logs", "pod/dns"]) == 0
    assert "stdout F hello" in capfd.readouterr().out
    assert not any(call[0] == "vm-201" for call in guests.calls), "a router has no pods"
    assert app.run(["logs", "pod/default/web"]) == 0
    out = capfd.readouterr().out
    assert ("F app" in out, "F side" in out) == (True, True)
    assert app.run(["logs", "pod/web", "-c", "side"]) == 0
    out = capfd.readouterr().out
    assert ("F app" in out, "F side" in out) == (False, True)
    assert app.run(["logs", "pod/kube-system/web"]) == 2
    assert "there is no such log" in capfd.readouterr().err
    assert app.run(["logs", "pod/*; id/x"]) == 2
    assert app.run(["logs", "zone/x"]) == 2
    assert "no overlay knows logs of a 'zone'" in capfd.readouterr().err
    assert app.run(["logs", "-c", "side"]) == 2


def test_since_of_a_pod(guests: Guests, capfd: Out) -> None:
    pod(guests, "vm-001", "default_old", "c", "2020-01-01T00:00:00Z stdout F old",
        "2199-01-01T00:00:00Z stdout F new")  # fmt: skip
    assert app.run(["logs", "pod/old", "--since", "1h"]) == 0
    out = capfd.readouterr().out
    assert ("F old" in out, "F new" in out) == (False, True)
    assert app.run(["logs", "pod/old", "--since", "yesterdays"]) == 2


def test_follow_of_a_pod_goes_on_with_what_is_added_and_with_new_containers(
    guests: Guests, monkeypatch: pytest.MonkeyPatch, capfd: Out
) -> None:
    path = pod(guests, "vm-001", "default_web", "app", "one", "two")
    turns = [
        lambda: path.write_text(path.read_text() + "three\n"),
        lambda: path.with_name("1.log").write_text("again\n"),
        lambda: path.write_text("cut\n"),
    ]

    def sleep(_: float) -> None:
        if not turns:
            raise KeyboardInterrupt
        turns.pop(0)()

    monkeypatch.setattr(logs.time, "sleep", sleep)
    assert app.run(["logs", "pod/web", "-f", "-n", "1"]) == 130
    lines = [line for line in capfd.readouterr().out.splitlines() if not line.startswith("==>")]
    assert [line for line in lines if line] == ["two", "three", "again", "cut"]


def test_completion_knows_nodes_and_components(guests: Guests) -> None:
    import click

    ctx = click.Context(logs.command, obj=CliSession())

    def names(begin: str) -> list[str]:
        return [item.value for item in logs.complete_words(ctx, logs.command.params[0], begin)]

    assert {"console", "kubelet", "kube-apiserver"} <= set(names(""))
    assert names("kube-a") == ["kube-apiserver"]
