"""What the file system, a file or a stream refuses is an error that says so, never a bug (70)."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from xk8s.cli.errors import understand
from xk8s.errors import HostError

XK8S = [sys.executable, "-m", "xk8s.cli"]


def run(*argv: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    own = {"XK8S_STATE": str(cwd / "state"), "XK8S_RUNTIME": str(cwd / "run")}
    return subprocess.run(
        [*XK8S, *argv],
        cwd=cwd,
        env={**os.environ, **own, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("directory", ["XK8S_STATE", "XK8S_CACHE", "XK8S_RUNTIME"])
@pytest.mark.parametrize(
    "argv",
    [
        ("status", "--all"),
        ("cache",),
        ("down",),
        ("artifacts", "debian", "--fetch"),
        ("up", "debian"),
    ],
    ids=lambda argv: argv[0],
)
def test_a_file_in_place_of_a_directory_is_an_error_of_this_machine(
    tmp_path: Path, directory: str, argv: tuple[str, ...]
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    if directory == "XK8S_RUNTIME" and argv[0] in ("artifacts", "up"):
        return  # nothing of it is used before much is built
    if directory == "XK8S_STATE" and argv[0] == "artifacts":
        return
    done = run(*argv, cwd=tmp_path, **{directory: str(file)})
    assert done.returncode in (0, 2, 5, 10), done.stderr
    if done.returncode in (2, 5):
        assert str(file) in done.stderr
        assert "  do: " in done.stderr


@pytest.mark.parametrize(
    "code", [errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EIO, errno.ENAMETOOLONG, errno.EMFILE]
)
def test_what_the_file_system_refuses_is_an_error_with_its_path(code: int) -> None:
    found = understand(OSError(code, os.strerror(code), "/some/place"))
    assert isinstance(found, HostError)
    assert found.where == "/some/place"
    assert os.strerror(code) in str(found)
    assert found.hint


def test_that_something_of_our_own_is_missing_stays_a_bug() -> None:
    assert understand(FileNotFoundError(errno.ENOENT, "No such file", "/some/place")) is None
    assert understand(OSError("no number")) is None


def test_plan_with_a_closed_output_succeeds(tmp_path: Path) -> None:
    command = ["sh", "-c", '"$@" >&-', "sh", *XK8S, "plan", "debian"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "text",
    [
        "nodes = inf",
        "nodes = 2.9",
        "nodes = 2.0",
        "nodes = true",
        "mtu = 1e400",
        "mtu = nan",
        "memory = {worker = 1024.99}",
        "nodes = " + "9" * 5000,
        "node_networks = " + "[" * 3000 + "]" * 3000,
        "node_networks = " + "[" * 3000,
        "memory = " + "{a = " * 3000,
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_number_in_a_file_is_a_wrong_setting(tmp_path: Path, text: str) -> None:
    (tmp_path / "xk8s.toml").write_text(f"[cluster]\n{text}\n")
    done = run("plan", "debian", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "xk8s.toml" in done.stderr
    assert len(done.stderr) < 1500


@pytest.mark.parametrize(
    "text",
    ["nodes=inf", "nodes=2.9", "nodes=nan", "mtu=1e400", "node_networks=" + "[" * 3000,
     "node_networks=" + "[" * 900 + "]" * 900, "memory=worker=1024.99", "nodes=" + "9" * 5000],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_what_is_no_number_on_the_command_line_is_a_wrong_setting(
    tmp_path: Path, text: str
) -> None:
    done = run("plan", "debian", "-s", f"cluster.{text}", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "cluster." in done.stderr
    assert len(done.stderr) < 1500


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400"])
def test_a_number_of_seconds_is_finite(tmp_path: Path, value: str) -> None:
    done = run("plan", "debian", "-s", f"plugins.timeout={value}", cwd=tmp_path)
    assert done.returncode == 2, done.stderr


def test_a_directory_a_thousand_deep_is_refused(tmp_path: Path) -> None:
    top = tmp_path / "deep"
    top.mkdir()
    place = os.open(top, os.O_RDONLY)
    for _ in range(1000):
        os.mkdir("d", dir_fd=place)
        below = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(place)
    done = run("plan", "debian", "./deep", cwd=tmp_path)
    # Python's own rmtree, which pytest uses, cannot remove it.
    subprocess.run(["rm", "-rf", str(top)], check=True)
    assert done.returncode == 2, done.stderr
    assert "100" in done.stderr


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    done = run("plan", "kubernetes", "-s", f"etcd.dir={'x' * 300}", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "etcd.dir" in done.stderr


def test_a_missing_cluster_is_one_whatever_programs_there_are(tmp_path: Path) -> None:
    found = {
        name: run(*argv, cwd=tmp_path).returncode
        for name, argv in {
            "tcpdump": ("net", "tcpdump", "1"),
            "exec": ("net", "exec", "--", "no-such-program"),
            "check": ("check",),
        }.items()
    }
    assert found == {"tcpdump": 10, "exec": 10, "check": 10}


@pytest.mark.parametrize(
    "argv",
    [("net", "tcpdump", "1"), ("plan", "nosuch"), ("layers", "show", "nosuch"), ("net", "x")],
)
def test_errors_are_json_where_the_log_is(tmp_path: Path, argv: tuple[str, ...]) -> None:
    done = run("--log-json", *argv, cwd=tmp_path)
    last = json.loads(done.stderr.splitlines()[-1])
    assert last["error"]["exit_code"] == done.returncode != 70
