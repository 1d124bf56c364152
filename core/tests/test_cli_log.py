"""What -v, -vv and --log-json show, and the log that each operation on a cluster keeps."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from xk8s.cluster import up as up_module
from xk8s.cluster.down import sweep
from xk8s.cluster.state import operation_log as logs
from xk8s.cluster.state.failed_start import failure_dir
from xk8s.cluster.state.record import locked, write_record
from xk8s.errors import BuildError, MachineError
from xk8s.pki import Keys
from xk8s.planning.plan import Plan
from xk8s.progress import Silent
from xk8s.report import collect
from xk8s.util.log import Record, get_logger
from xk8s.util.paths import state_dir

TOKEN = "abcdef.0123456789ghijkl"


@pytest.fixture(autouse=True)
def own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE", "RUNTIME", "CACHE"):
        monkeypatch.setenv(f"XK8S_{name}", str(tmp_path / name.lower()))
    monkeypatch.delenv("XK8S_NAME", raising=False)


def stderr_of(*words: str, **environment: str) -> str:
    argv = [sys.executable, "-m", "xk8s.cli", *words]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert "Traceback" not in done.stderr
    return done.stderr


# --- options ----------------------------------------------------------------------------


@pytest.fixture
def path_with_go(tmp_path: Path) -> str:
    """A PATH where `xk8s doctor` finds an invented program ``go``."""
    program = tmp_path / "bin" / "go"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho go version go1.0 invented\nexit 3\n")
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


def test_v_shows_each_program_with_its_exit_code_and_time(path_with_go: str) -> None:
    assert "program_run" not in stderr_of("doctor", PATH=path_with_go)
    (line,) = [
        line for line in stderr_of("doctor", "-v", PATH=path_with_go).splitlines()
        if "bin/go version" in line
    ]  # fmt: skip
    assert re.fullmatch(
        r"timestamp=[\d:]{8} level=info event=program_run argv=\S*/bin/go version exit_code=3 "
        r"duration_s=\d+\.\d+",
        line,
    )


def test_vv_shows_locks_too() -> None:
    assert "cluster_locked" not in stderr_of("down", "-v")
    text = stderr_of("down", "-vv")
    assert re.search(r"level=debug event=cluster_locked cluster=xk8s duration_s=", text)


def test_log_json_makes_all_of_stderr_json(path_with_go: str) -> None:
    lines = [json.loads(line) for line in stderr_of("down", "--log-json").splitlines()]
    assert [(line["event"], line.get("stage") or line["text"]) for line in lines] == [
        ("stage_started", "down"), ("stage_ended", "down"), ("note", "cluster 'xk8s' was not up"),
    ]  # fmt: skip
    assert isinstance(lines[1]["duration_s"], float)
    assert {line["level"] for line in lines} == {"info"}
    text = stderr_of("--log-json", "-v", "doctor", PATH=path_with_go)
    (program,) = [
        line for line in map(json.loads, text.splitlines()) if line["argv"][1:] == ["version"]
    ]
    assert program["exit_code"] == 3
    assert program["logger"] == "xk8s.util.run_program"


@pytest.mark.parametrize("option", ["--json", "--log-json"])
@pytest.mark.parametrize("words", [["status"], ["status", "--no-such-option"]])
def test_an_error_is_one_json_object_with_either_option(option: str, words: list[str]) -> None:
    (line,) = stderr_of(*words, option).splitlines()
    record = json.loads(line)
    assert (record["level"], record["event"]) == ("error", "error")
    assert record["error"]["kind"] in ("StateError", "UsageError")
    assert record["error"]["exit_code"]


def test_log_json_without_a_verb_is_json_as_well() -> None:
    for words in (["--log-json"], ["--log-json", "net"]):
        (line,) = stderr_of(*words).splitlines()
        assert json.loads(line)["error"]["kind"] == "UsageError"


def test_quiet_leaves_errors_of_log_json() -> None:
    assert stderr_of("down", "--log-json", "-q") == ""
    assert json.loads(stderr_of("status", "--log-json", "-q"))["error"]["kind"] == "StateError"


def test_a_closed_stderr_ends_nothing() -> None:
    code = (
        "import sys; from xk8s.cli.log import configure; from xk8s.util.log import get_logger;"
        "configure(verbose=2); sys.stderr.close(); get_logger('x').info('event'); print('went on')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "went on\n"


def screen(output: str) -> list[str]:
    """What a terminal without a right margin shows after this output."""
    rows, row, column = [""], 0, 0
    for piece in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", output):
        if piece == "\n":
            row, column = row + 1, 0
            rows += [""] * (row + 1 - len(rows))
        elif piece == "\r":
            column = 0
        elif piece.startswith("\x1b["):
            if piece.endswith("A"):
                row -= int(piece[2:-1] or 1)
            elif piece.endswith("K"):
                rows[row] = ""
        else:
            rows[row] = rows[row][:column].ljust(column) + piece + rows[row][column + len(piece) :]
            column += len(piece)
    return rows


def test_log_lines_and_the_live_display_stay_whole() -> None:
    code = """if True:
        import threading, time
        from xk8s.cli.session import CliSession
        from xk8s.util.log import get_logger
        session = CliSession()
        session.verbose = 1
        session.configure_log()
        log = get_logger("probe")
        def work(name):
            for number in range(40):
                log.info("probe", number=number, node=name, end="E")
                progress.item(name, f"step {number}", done=number, total=40)
                time.sleep(0.01)
        with session.progress() as progress, progress.stage("stage"):
            threads = [threading.Thread(target=work, args=(f"vm-{n:03}",)) for n in range(4)]
            [thread.start() for thread in threads]
            progress.note("a note that stays")
            [thread.join() for thread in threads]
    """
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=follower, stdout=follower, stderr=follower,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
    )  # fmt: skip
    os.close(follower)
    output = b""
    while True:
        try:
            output += os.read(leader, 65536)
        except OSError:  # EIO: the program has ended
            break
    os.close(leader)
    assert process.wait() == 0
    rows = [row.rstrip() for row in screen(output.decode()) if row.strip()]
    assert len(rows) == 160 + 2, rows
    form = re.compile(r"\d\d:\d\d:\d\d \[info +\] probe +end=E node=vm-00\d number=\d+")
    assert len([row for row in rows if form.fullmatch(row)]) == 160, rows
    assert "  a note that stays" in rows
    assert re.fullmatch(r"✓ stage \d+\.\d s", rows[-1])


# --- records ----------------------------------------------------------------------------


def test_no_secret_gets_into_a_record(records: list[Record]) -> None:
    get_logger("x").info(
        "probe",
        argv=["kubeadm", "join", "--token", "hush", "--password=hush2"],
        arguments={"client_secret": "hush3", "name": "vm-001"},
        text=f"a token {TOKEN} and https://me:hush4@example.org/",
        data=b"hush5",
        path=Path("/x"),
        long="x" * 5000,
    )
    (record,) = records
    assert "hush" not in str(record.fields)
    assert TOKEN not in str(record.fields)
    assert record.fields["arguments"] == {"client_secret": "[removed by xk8s]", "name": "vm-001"}
    assert record.fields["argv"][:3] == ["kubeadm", "join", "--token"]  # type: ignore[index]
    assert record.fields["data"] == "5 bytes"
    assert record.fields["path"] == "/x"
    assert len(str(record.fields["long"])) < 2100
    json.dumps(record.fields)


def test_a_block_is_logged_with_its_time_and_error(records: list[Record]) -> None:
    log = get_logger("x")
    with log.timed("fine", node="vm-001") as result:
        result["exit_code"] = 0
    with pytest.raises(KeyError), log.timed("broken"):
        raise KeyError("k")
    fine, broken = records
    assert {**fine.fields, "duration_s": 0} == {"node": "vm-001", "exit_code": 0, "duration_s": 0}
    assert broken.fields["error"] == "KeyError: 'k'"
    assert isinstance(broken.fields["duration_s"], float)


# --- the log of an operation ------------------------------------------------------------


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def logs_of(cluster: str) -> list[Path]:
    return sorted((state_dir(cluster) / logs.LOGS).iterdir())


def test_an_operation_keeps_its_records_as_private_json_lines() -> None:
    def operation() -> None:
        with logs.operation_log("t", "apply"):
            get_logger("x").debug("probe", number=1)
            raise BuildError("it failed", where="there", hint="look", log="last words\n")

    with pytest.raises(BuildError):
        operation()
    get_logger("x").debug("after it")
    (path,) = logs_of("t")
    assert path.name.endswith("-apply.jsonl")
    assert path.stat().st_mode & 0o777 == 0o600
    probe, failed, whole = lines_of(path)
    assert (probe["event"], probe["level"], probe["number"]) == ("probe", "debug", 1)
    assert (failed["error"], failed["do"], failed["log"]) == ("it failed", "look", "last words\n")
    assert whole["operation"] == "apply"
    assert whole["error"] == "BuildError: it failed"


def test_logs_are_bounded_in_number_and_size() -> None:
    with logs.operation_log("t", "up"):
        pass
    for number in range(logs.KEPT + 3):
        with logs.operation_log("t", "apply"):
            get_logger("x").info("probe", number=number)
    names = [path.name for path in logs_of("t")]
    assert len([name for name in names if name.endswith("-apply.jsonl")]) == logs.KEPT
    assert len([name for name in names if name.endswith("-up.jsonl")]) == 1
    assert lines_of(logs_of("t")[-1])[0]["number"] == logs.KEPT + 2

    sink = logs.LogFile(state_dir("t") / "probe.jsonl", limit=4096)
    for number in range(500):
        sink.write(Record(20, "x", "probe", {"number": number}))
        assert sink.path.stat().st_size <= 4096
    lines = lines_of(sink.path)
    assert lines[0]["event"] == "beginning_removed"
    assert [line["number"] for line in lines[1:]] == list(range(500 - len(lines) + 1, 500))
    assert sink.path.stat().st_mode & 0o777 == 0o600


def test_the_log_of_an_operation_takes_no_import_of_structlog() -> None:
    code = """if True:
        import sys
        from xk8s.cli.log import configure
        from xk8s.cluster.state.operation_log import operation_log
        from xk8s.util.log import get_logger
        configure()
        with operation_log("t", "up"):
            get_logger("x").debug("probe")
        assert "structlog" not in sys.modules
        get_logger("x").warning("shown")
        assert "structlog" in sys.modules
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "event=shown" in done.stderr
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr


def test_a_swept_directory_ends_no_operation() -> None:
    with logs.operation_log("t", "up"):
        sweep("t")
        get_logger("x").info("probe")
    assert not state_dir("t").exists()


def test_a_restore_that_failed_keeps_the_log_for_the_boot() -> None:
    with locked("t"), logs.operation_log("t", "up"):
        get_logger("x").info("before")
        (state_dir("t") / "pki").mkdir()
        (state_dir("t") / "record.json").write_text("{}")
        sweep("t", keep_log=True)
        get_logger("x").info("behind")
    assert [path.name for path in state_dir("t").iterdir()] == [logs.LOGS]
    (path,) = logs_of("t")
    assert [line["event"] for line in lines_of(path)] == ["before", "behind", "operation"]


def test_the_log_of_an_up_whose_vms_are_invented_is_in_the_report(
    monkeypatch: pytest.MonkeyPatch, plan_of: Callable[..., Plan]
) -> None:
    def make_inputs(plan: Plan, *_: object) -> None:
        get_logger("x").debug("probe", text=f"with {TOKEN}", size=3)
        console = state_dir(plan.name) / "console" / "vm-001.log"
        console.parent.mkdir()
        console.write_text("panic\n")
        raise MachineError("vm-001: its kernel panicked", where="w")

    monkeypatch.setattr(up_module, "make_inputs", make_inputs)
    plan = plan_of()
    with pytest.raises(MachineError):
        up_module.up(plan, Silent())
    assert not state_dir("t").exists()
    assert list((failure_dir("t") / logs.LOGS).iterdir())
    files = collect("t", Silent()).contents.files
    ((name, data),) = [(name, data) for name, data in files.items() if "/log/" in name]
    assert re.fullmatch(r"cluster/log/\d{8}T\d{6}\.\d{6}Z-up\.jsonl", name)
    lines = [json.loads(line) for line in data.decode().splitlines()]
    assert [line["event"] for line in lines if line["logger"] == "x"] == ["probe"]
    assert lines[-1]["event"] == "operation"
    assert lines[-1]["error"] == "MachineError: vm-001: its kernel panicked"
    assert TOKEN.encode() not in data


def test_the_log_of_a_cluster_that_runs_is_in_the_report_without_its_keys(
    monkeypatch: pytest.MonkeyPatch, plan_of: Callable[..., Plan]
) -> None:
    from xk8s.cluster.handle import Cluster
    from xk8s.cluster.state.record import Record as ClusterRecord
    from xk8s.cluster.state.request_file import write_inputs

    plan = plan_of()
    with logs.operation_log("t", "scale"):
        write_inputs(plan)
        write_record(ClusterRecord(name="t", phase="running", overlays=(), digest="d", accel="tcg"))
        Keys(state_dir("t") / "pki").ca("ca")
        key = (state_dir("t") / "pki" / "ca.key").read_text().splitlines()[1]
        get_logger("x").debug("quoted", text=f"it said {key}")
    assert key in logs_of("t")[0].read_text()
    monkeypatch.setattr(Cluster, "plan", plan)
    files = collect("t", Silent(), checks=False).contents.files
    ((name, data),) = [(name, data) for name, data in files.items() if "/log/" in name]
    assert name.endswith("-scale.jsonl")
    assert b"it said [removed by xk8s]" in data
    assert key.encode() not in data
