"""The limit of a whole run, in pytest itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doc_blocks import ROOT
from tests.time_left import LAST

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


def run(directory: Path, *words: str, minutes: str = "60") -> str:
    """What pytest says of the files in it."""
    plugins = ("-p", "tests.time_left", "-p", "no:cacheprovider")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-s", "-ra", f"--rootdir={directory}", "-o",
         "markers=cluster: x", "-c", "/dev/null", *plugins, *words, directory],
        cwd=ROOT, env={**os.environ, "XK8S_TEST_MINUTES": minutes}, capture_output=True,
        text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, text in ((LAST[0], SLOW), ("test_a", SLOW), ("test_z", QUICK)):
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def test_what_takes_long_comes_last(files: Path) -> None:
    said = run(files)
    assert "3 passed" in said
    assert said.index("test_z.py::") < said.index("test_a.py::") < said.index(f"{LAST[0]}.py::")


def test_what_has_not_begun_in_time_is_skipped_and_told_and_boots_nothing(files: Path) -> None:
    said = run(files, "--minutes=0.004")
    assert "1 passed, 2 skipped" in said
    assert "no time left: the 0.004 minutes of --minutes are over" in said
    assert "it boots" not in said


def test_the_environment_may_say_it(files: Path) -> None:
    assert "1 passed, 2 skipped" in run(files, minutes="0.004")
    assert "3 passed" in run(files, "--minutes=60", minutes="0.004")


def test_its_list_has_files_that_are_there() -> None:
    there = {path.stem for path in (ROOT / "tests" / "cluster").glob("test_*.py")}
    assert set(LAST) <= there
