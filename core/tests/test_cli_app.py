from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
from xk8s.cli import app
from xk8s.cli.errors import as_text, report
from xk8s.errors import BuildError, HostError, Interrupted, UsageError, Xk8sError

pytestmark = pytest.mark.usefixtures("own_places")


def xk8s(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "xk8s.cli", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False, **more)


HEAVY = (
    "attrs", "cattrs", "cryptography", "filelock", "urllib3", "jinja2", "qemu", "rich",
    "structlog", "yaml", "asyncio", "xk8s.planning.make_plan", "xk8s.names.registry",
)  # fmt: skip


@pytest.mark.parametrize("words", [["--help"], ["-h"]])
def test_help_imports_no_plugin_and_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys; from xk8s.cli.app import run; code = run(sys.argv[1:]);"
        "print(*sorted(sys.modules), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )
    loaded = set(done.stderr.split())
    assert not {name for name in loaded if name.startswith("xk8s_")}
    assert not loaded & set(HEAVY)
    for verb in app.VERBS:
        assert f"  {verb} " in done.stdout


def test_a_plan_imports_nothing_that_draws_or_logs() -> None:
    # Before each restore stands a plan, and a restore takes a second.
    code = (
        "import sys; from xk8s.cli.app import run; code = run(sys.argv[1:]);"
        "print(*sorted(sys.modules), file=sys.stderr); sys.exit(code)"
    )
    words = ("plan", "debian", "--json")
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )
    assert not set(done.stderr.split()) & {"structlog", "rich", "qemu", "asyncio", "urllib3"}


def test_help_is_quick() -> None:
    def seconds() -> float:
        before = os.times()
        xk8s("--help")
        after = os.times()
        # CPU time: other work on the machine must not fail it
        return after.children_user + after.children_system - before[2] - before[3]

    assert min(seconds() for _ in range(4)) < 0.2


@pytest.mark.parametrize("verb", app.VERBS)
def test_every_verb_has_help_and_both_help_options(verb: str) -> None:
    command = app.xk8s.get_command(click.Context(app.xk8s), verb)
    assert command is not None
    assert command.help
    with pytest.raises(SystemExit) as caught:
        app.xk8s.main([verb, "-h"], prog_name="xk8s")
    assert caught.value.code == 0


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run(["--version"]) == 0
    assert capfd.readouterr().out == f"xk8s {importlib.metadata.version('xk8s')}\n"


# --- errors -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["stauts"], "xk8s: there is no verb 'stauts'\n  do: did you mean 'status'? "),
        (["up", "kubernets"], "xk8s: there is no overlay 'kubernets'\n"),
        (["up"], "xk8s: Missing argument 'OVERLAYS...'\n  do: xk8s up --help\n"),
        (["plan", "debian", "-s", "debian"], "xk8s: 'debian' is not a setting\n  where: command"),
        (["plan", "debian", "-s", "debin.x=1"], "xk8s: setting 'debin.x': no selected overlay"),
        (["plan", "debian", "-s", "cluster.nods=1"], "xk8s: there is no setting cluster.nods\n"),
        (["plan", "debian", "--nodes", "many"], "xk8s: 'many' is not a value for cluster.nodes\n"),
        (["plan", "debian", "--nodes", "0"], "xk8s: cluster.nodes=0 is out of range\n"),
        (["plan", "debian", "--memory", "vm=x"], "xk8s: Invalid value for '--memory': "),
        (["plan", "debian", "--memory", "vm-009=512"], "xk8s: cluster.memory: 'vm-009' is"),
        (["plan", "debian", "--name", "A b"], "xk8s: 'A b' is not a cluster name\n"),
        (["plan", "debian", "--config", "no.toml"], "xk8s: Invalid value for '--config': File"),
        (["explain", "cluster.nods"], "xk8s: there is no setting 'cluster.nods'\n"),
        (["plan", "debian", "--accel", "xen"], "xk8s: Invalid value for '--accel': "),
    ],
)
def test_bad_input_is_told_with_what_to_do(
    words: list[str], text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert app.run(words) == UsageError.exit_code
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(text)
    assert "\n  do: " in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "words",
    [["status"], ["exec", "vm-001", "--", "true"], ["logs"], ["check"], ["shell", "vm-001"]],
)
def test_verbs_without_a_cluster(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run([*words, "--name", "none"] if "--" not in words else words) == 10
    assert "there is no cluster" in capfd.readouterr().err


def test_json_errors_are_json_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run(["status", "--json"]) == 10
    error = json.loads(capfd.readouterr().err)["error"]
    assert error["kind"] == "StateError"
    assert error["exit_code"] == 10
    assert error["do"] == "start one with `xk8s up`"


def test_json_behind_the_dashes_is_the_commands_own(capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run(["exec", "vm-001", "--", "x", "--json"]) == 10
    assert capfd.readouterr().err.startswith("xk8s: ")


def test_text_of_an_error() -> None:
    error = BuildError("mkfs.erofs failed", where="layer etcd", hint="look", log="one\ntwo\n")
    assert as_text(error, 7) == (
        "xk8s: mkfs.erofs failed\n  where: layer etcd\n  do: look\n  log:\n  | one\n  | two"
    )
    assert as_text(Xk8sError("plain"), 1) == "xk8s: plain"


def test_unexpected_errors_leave_a_private_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RuntimeError) as caught:
        raise RuntimeError("boom")
    assert report(caught.value) == 70
    err = capsys.readouterr().err
    (log,) = (tmp_path / "state").glob("traceback-*.log")
    assert f"where: traceback: {log}" in err
    assert "Traceback" not in err
    assert "RuntimeError: boom" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


def test_of_many_tracebacks_the_last_ten_stay(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    for number in range(20):
        (state / f"traceback-20260101-0000{number:02}-1.log").write_text("old")
    assert report(RuntimeError("boom")) == 70
    names = sorted(path.name for path in state.glob("traceback-*.log"))
    assert len(names) == 10
    assert names[0] == "traceback-20260101-000011-1.log"


def test_a_full_disk_is_the_machines_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(OSError(28, "No space left on device", "/x")) == HostError.exit_code
    assert "the disk is full\n  where: /x" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_clean_up_and_exit_130(number: signal.Signals, tmp_path: Path) -> None:
    code = """if True:
        import sys, time
        from pathlib import Path
        from xk8s.cli import app
        @app.xk8s.command("wait")
        def wait():
            try:
                Path("ready").touch()
                time.sleep(60)
            finally:
                Path("clean").touch()
        app.VERBS["wait"] = ""
        app.Verbs.get_command = lambda self, ctx, name: wait
        sys.exit(app.run(["wait"]))
    """
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, process_group=0
    )
    try:
        while not (tmp_path / "ready").exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == Interrupted.exit_code
    assert err == "xk8s: interrupted\n"
    assert (tmp_path / "clean").exists()


def test_a_reader_that_goes_away_is_no_error() -> None:
    argv = [sys.executable, "-m", "xk8s.cli", "explain", "cluster"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() in (0, 141)


# --- completion -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "index", "expected"),
    [
        ("xk8s stat", 1, "status"),
        ("xk8s up kubern", 2, "kubernetes"),
        ("xk8s --ver", 1, "--version"),
    ],
)
def test_completion(words: str, index: int, expected: str) -> None:
    environment = {
        **os.environ,
        "_XK8S_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(index),
    }
    assert f"plain,{expected}\n" in xk8s(env=environment).stdout
