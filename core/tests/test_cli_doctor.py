from __future__ import annotations

import json
from pathlib import Path

import pytest
from xk8s.cli import app
from xk8s.errors import HostError
from xk8s.machine.net import privileges
from xk8s.report import doctor
from xk8s.util import host_programs


def test_a_probe_that_raises_is_a_finding_and_the_others_still_run() -> None:
    def broken() -> tuple[doctor.Severity, str, str]:
        raise HostError("no tun", hint="modprobe tun")

    def unreadable() -> tuple[doctor.Severity, str, str]:
        raise PermissionError(13, "denied")

    findings = doctor.examine(
        [("a", broken), ("b", unreadable), ("c", lambda: ("warn", "slow", "buy"))]
    )
    assert [(finding.name, finding.level) for finding in findings] == [
        ("a", "fail"), ("b", "fail"), ("c", "warn"),
    ]  # fmt: skip
    assert findings[0].do == "modprobe tun"
    with pytest.raises(HostError, match="lacks 2: a, b") as caught:
        doctor.require(findings)
    assert caught.value.hint == "modprobe tun"
    doctor.require(findings[2:])


@pytest.mark.parametrize(
    ("missing", "user", "level"),
    [
        ({"cpio", "tcpdump"}, 0, "fail"),
        ({"tcpdump", "dumpcap"}, 0, "warn"),
        ({"newuidmap"}, 0, "warn"),
        ({"newuidmap"}, 1000, "fail"),
        (set(), 1000, "ok"),
    ],
    ids=["needed", "optional", "root", "user", "none"],
)
def test_missing_programs_are_one_finding_with_one_line(
    monkeypatch: pytest.MonkeyPatch, missing: set[str], user: int, level: str
) -> None:
    monkeypatch.setattr(host_programs, "is_there", lambda program: program.name not in missing)
    monkeypatch.setattr("os.geteuid", lambda: user)
    found, text, do = doctor.programs()
    assert found == level
    for name in missing:
        assert f"{name} (" in text
        (program,) = [program for program in host_programs.PROGRAMS if program.name == name]
        assert host_programs.packages([program], host_programs.package_manager())[0] in do
    assert bool(do) == bool(missing)


def test_a_line_that_answers_two_findings_is_shown_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = [(name, lambda: ("fail", "away", "get it")) for name in ("first", "second")]
    monkeypatch.setattr(doctor, "PROBES", tuple(bad))
    assert app.run(["doctor"]) == 5
    out, err = capfd.readouterr()
    assert (out.count("get it"), err.count("get it")) == (1, 1)
    assert "do: the same as above" in out


def test_room_warns_and_fails(tmp_path: Path) -> None:
    deep = tmp_path / "not" / "there" / "yet"
    assert doctor.room("X", deep, 0, 0)()[0] == "ok"
    assert doctor.room("X", deep, 1 << 40, 0)()[0] == "warn"
    level, _, do = doctor.room("X", deep, 1 << 40, 1 << 40)()
    assert level == "fail"
    assert "set X to a directory" in do
    assert not deep.exists()


def test_the_verb_reports_and_exits_5_on_a_failure(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    good = ("good", lambda: ("ok", "there", ""))
    bad = ("bad", lambda: ("fail", "away", "get it"))
    monkeypatch.setattr(doctor, "PROBES", (good,))
    assert app.run(["doctor"]) == 0
    assert "ok    good  there" in capfd.readouterr().out
    monkeypatch.setattr(doctor, "PROBES", (good, bad))
    assert app.run(["doctor", "--json"]) == 5
    out, err = capfd.readouterr()
    assert [finding["level"] for finding in json.loads(out)] == ["ok", "fail"]
    assert json.loads(err)["error"]["do"] == "get it"


def test_every_probe_answers_here_and_says_what_to_do() -> None:
    findings = doctor.examine()
    assert [finding.name for finding in findings] == [name for name, _ in doctor.PROBES]
    for finding in findings:
        assert finding.text
        assert finding.level == "ok" or finding.do


def test_a_machine_without_ipv6_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert doctor.ipv6()[0] == "ok"
    monkeypatch.setattr(privileges, "_IF_INET6", tmp_path / "if_inet6")
    assert doctor.ipv6() == (
        "warn", "switched off: IPv4 clusters only", "start the kernel without ipv6.disable=1"
    )  # fmt: skip


def test_a_log_out_that_takes_the_clusters_along_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "_LINGER", tmp_path)
    monkeypatch.setenv("XK8S_RUNTIME", str(tmp_path))
    assert doctor.log_out()[0] == "ok"
    monkeypatch.delenv("XK8S_RUNTIME")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    level, text, do = doctor.log_out()
    assert (level, "/run/user/1000/xk8s" in text) == ("warn", True)
    assert do.startswith("loginctl enable-linger ")
    (tmp_path / do.rpartition(" ")[2]).touch()
    assert doctor.log_out()[0] == "ok"
