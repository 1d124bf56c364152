"""Order, time limits and what was left out, in a pytest of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doc_blocks import ROOT
from tests.suite.changes import changed_paths, is_touched
from tests.suite.order import LAST

SLOW = """\
import pytest
pytestmark = pytest.mark.cluster
@pytest.fixture(scope="module")
def boots():
    print("it boots")
def test_it(boots):
    pass
"""
QUICK = """\
import time
def test_it():
    time.sleep(0.3)
"""
SMOKE = (
    "import pytest\npytestmark = [pytest.mark.cluster, pytest.mark.smoke]\ndef test_it(): pass\n"
)
HANGS = """\
import pytest, time
@pytest.mark.timeout(1)
def test_hangs():
    time.sleep(60)
def test_next():
    pass
"""
SEES_OPTIONS = """\
import os
def test_it():
    assert "PYTEST_ADDOPTS" not in os.environ
"""
SHORT_GRACE = """\
import time
from tests.suite import time_limits
time_limits.GRACE = 0.02
def pytest_collection_finish(session):  # this process may have taken long to come so far
    session.config.stash[time_limits._BEGAN] = time.monotonic()
"""
PLUGINS = (
    "tests.suite.environment",
    "tests.suite.not_run",
    "tests.suite.time_limits",
    "tests.suite.order",
)


def run(directory: Path, *words: str, minutes: str = "60", code: int = 0, options: str = "") -> str:
    """What pytest says of the files in it."""
    environment = {
        **os.environ, "XK8S_TEST_MINUTES": minutes, "XK8S_CACHE": str(directory / "c"),
        "PYTEST_ADDOPTS": options,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-s", "-ra", f"--rootdir={directory}", "-o",
         "markers=cluster: x", "-c", "/dev/null", "-p", "no:cacheprovider",
         *(word for plugin in PLUGINS for word in ("-p", plugin)), *words, directory],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def not_run(directory: Path) -> list[str]:
    file = directory / "c/tests/not-run.json"
    return list(json.loads(file.read_text())) if file.exists() else []


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, text in ((LAST[0], SLOW), ("test_a", SLOW), ("test_y", SMOKE), ("test_z", QUICK)):
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def test_smoke_comes_first_and_what_takes_long_last(files: Path) -> None:
    said = run(files)
    assert "4 passed" in said
    found = [said.index(f"{name}.py::") for name in ("test_y", "test_z", "test_a", LAST[0])]
    assert found == sorted(found)


def test_what_has_not_begun_in_time_boots_nothing_and_is_named_in_the_last_lines(
    files: Path,
) -> None:
    said = run(files, "--minutes=0.004")
    assert "2 passed, 2 skipped" in said
    assert "no time left: the 0.004 minutes of --minutes are over" in said
    assert "it boots" not in said
    last = said.strip().splitlines()[-4:]
    assert last[0] == "NOT RUN, no time was left for 2 tests:"
    assert [line.strip() for line in last[1:3]] == [
        "test_a.py: 1 (test_it)",
        f"{LAST[0]}.py: 1 (test_it)",
    ]
    assert last[3].endswith("c/tests/not-run.json")


def test_the_next_run_begins_its_vms_with_what_was_left_out(files: Path) -> None:
    (files / "c/tests").mkdir(parents=True)
    late = [f"{LAST[0]}.py::test_it", "other/test_elsewhere.py::test_it"]
    (files / "c/tests/not-run.json").write_text(json.dumps(late))
    said = run(files)
    assert said.index("test_z.py::") < said.index(f"{LAST[0]}.py::") < said.index("test_a.py::")
    assert "NOT RUN" not in said
    # What this run has not collected is still to be run.
    assert not_run(files) == ["other/test_elsewhere.py::test_it"]


def test_a_damaged_file_of_an_earlier_run_does_no_harm(files: Path) -> None:
    (files / "c/tests").mkdir(parents=True)
    (files / "c/tests/not-run.json").write_text("{")
    assert "4 passed" in run(files)
    assert not_run(files) == []


def test_the_environment_may_set_the_limit(files: Path) -> None:
    assert "2 passed, 2 skipped" in run(files, minutes="0.004")
    assert "4 passed" in run(files, "--minutes=60", minutes="0.004")


def test_options_of_the_environment_do_not_reach_what_tests_start(tmp_path: Path) -> None:
    """Another pytest may lack the plugin: CI's `--hypothesis-profile` failed a new overlay's."""
    (tmp_path / "test_a.py").write_text(SEES_OPTIONS)
    said = run(tmp_path, options="--durations=3")
    assert "1 passed" in said
    assert "slowest 3 durations" in said


def test_a_test_that_hangs_fails_and_says_where(tmp_path: Path) -> None:
    (tmp_path / "test_hangs.py").write_text(HANGS)
    said = run(tmp_path, code=1)
    assert "1 failed, 1 passed" in said
    assert "time.sleep(60)" in said
    assert "Timeout (>1.0s) from pytest-timeout" in said


def test_a_test_that_runs_when_all_time_is_over_is_ended_and_was_not_run(tmp_path: Path) -> None:
    text = SLOW.replace("    pass", "    import time; time.sleep(60)")
    (tmp_path / "test_a.py").write_text(text)
    (tmp_path / "conftest.py").write_text(SHORT_GRACE)
    said = run(tmp_path, "--minutes=0.05")
    assert "it boots" in said
    assert "1 skipped" in said
    assert "no time left: ended in the middle" in said
    assert "NOT RUN, no time was left for 1 tests:" in said
    assert not_run(tmp_path) == ["test_a.py::test_it"]


def test_its_list_has_files_that_are_there() -> None:
    there = {path.stem for path in (ROOT / "tests" / "cluster").glob("test_*.py")}
    assert set(LAST) <= there


@pytest.mark.parametrize(
    ("changed", "touched", "other"),
    [
        ("core/src/xk8s/pki.py", "core/tests/test_pki.py", "plugins/frr/tests/test_frr_overlay.py"),
        ("core/src/xk8s/pki.py", "tests/cluster/test_apply.py", "tests/test_site.py"),
        ("plugins/frr/src/xk8s_frr/checks.py", "plugins/frr/tests/test_frr_overlay.py",
         "core/tests/test_pki.py"),
        ("plugins/frr/src/xk8s_frr/checks.py", "tests/cluster/test_frr.py",
         "tests/cluster/test_apply.py"),
        # It comes along with kubernetes, whose name is in the file.
        ("plugins/etcd/src/xk8s_etcd/settings.py", "tests/cluster/test_scale_kubernetes.py",
         "tests/cluster/test_frr.py"),
        ("tests/cluster/api_server.py", "tests/cluster/test_helm.py", "tests/cluster/test_frr.py"),
        ("tests/cluster/test_frr.py", "tests/cluster/test_frr.py", "tests/cluster/test_helm.py"),
        ("docs/howto/bgp.md", "tests/cluster/test_pages.py", "tests/cluster/test_frr.py"),
        ("tools/prepare.py", "tests/test_run_prepare.py", "core/tests/test_pki.py"),
        ("core/tests/conftest.py", "core/tests/test_pki.py", "tests/test_site.py"),
    ],
)  # fmt: skip
def test_a_change_touches_tests_of_what_it_changes(changed: str, touched: str, other: str) -> None:
    assert is_touched(ROOT / touched, [changed])
    assert not is_touched(ROOT / other, [changed])


def test_changes_are_those_since_what_landed_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> None:
        own = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", tmp_path, *own, *words], check=True, capture_output=True)

    def commit(name: str) -> None:
        (tmp_path / name).write_text("")
        git("add", name)
        git("commit", "-m", name)

    monkeypatch.delenv("XK8S_TEST_BASE", raising=False)
    assert changed_paths(tmp_path / "none") == frozenset()
    git("init", "-b", "main")
    commit("landed")
    commit("last")
    assert changed_paths(tmp_path) == {"last"}, "on main: what its last commit changed"
    git("checkout", "-b", "work")
    commit("one")
    commit("two")
    (tmp_path / "new").write_text("")
    (tmp_path / "landed").write_text("edited")
    assert changed_paths(tmp_path) == {"one", "two", "new", "landed"}
    monkeypatch.setenv("XK8S_TEST_BASE", "HEAD^")
    assert changed_paths(tmp_path) == {"two", "new", "landed"}
