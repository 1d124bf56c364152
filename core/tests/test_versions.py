"""Distributions of another version than xk8s itself: throw-away ones, as pip leaves them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from xk8s.errors import PluginError, UsageError
from xk8s.names.versions import core_requirement, is_met

MINE = version("xk8s")

PLUGIN = """
import click
from xk8s import hookimpl
from xk8s.overlay import Overlay

@hookimpl
def xk8s_overlay():
    return Overlay(summary="a test", requires=("base",))

@click.command()
def command():
    click.echo("the verb ran")
"""


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["attrs", "xk8s==0.1.0"], "==0.1.0"),
        (["xk8s-etcd==0.1.0", "xk8s>=0.1,<2"], ">=0.1,<2"),
        (["xk8s (>=0.1)"], ">=0.1"),
        (["xk8s[testing] >= 0.1 ; python_version > '3'"], ">= 0.1"),
        (["xk8s==9; extra == 'test'"], ""),
        (["xk8s", "xk8s-etcd==9", "attrs"], ""),
        ([], ""),
    ],
)
def test_what_a_distribution_requires_of_xk8s(lines: list[str], found: str) -> None:
    assert core_requirement(lines) == found


@pytest.mark.parametrize(
    ("requirement", "installed", "met"),
    [
        ("==0.1.0", "0.1.0", True),
        ("==0.1", "0.1.0", True),
        ("==0.1.0", "0.1.0+local", True),
        ("==0.1.0", "0.1.1", False),
        ("==0.2.0rc1", "0.2.0rc1", True),
        ("==0.2.0rc1", "0.2.0", False),
        (">=0.9", "0.10", True),
        (">=0.10", "0.9", False),
        (">=0.1,<2", "0.0.9", False),
        (">=0.1,==0.3", "0.2", False),
        # Left to installers.
        (">=0.2.0rc1", "0.1.0", True),
        ("~=0.2", "0.1.0", True),
        ("==0.2.*", "0.1.0", True),
        ("", "0.1.0", True),
        ("==0.1.0", "", True),
    ],
)
def test_whether_it_is_met(requirement: str, installed: str, met: bool) -> None:
    assert is_met(requirement, installed) is met


def install(site: Path, distribution: str, number: str, requires: str) -> None:
    """One that offers an overlay of its name, and the verb t-NAME."""
    module = distribution.replace("-", "_")
    info = site / f"{module}-{number}.dist-info"
    info.mkdir(parents=True)
    (site / f"{module}.py").write_text(PLUGIN)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {number}\nRequires-Dist: attrs\n"
        f"Requires-Dist: {requires}\n\nA page about it.\n"
    )
    (info / "entry_points.txt").write_text(
        f"[xk8s.v1]\n{distribution} = {module}\n"
        f"[xk8s.v1.commands]\nt-{distribution} = {module}:command\n"
    )


def xk8s(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    own = {name: str(root / name) for name in ("XK8S_STATE", "XK8S_RUNTIME")}
    return subprocess.run(
        [sys.executable, "-m", "xk8s.cli", *words],
        env={**os.environ, **own, "PYTHONPATH": str(root / "site")},
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_mixture_is_an_error_that_names_all_of_it(tmp_path: Path) -> None:
    for name in ("xk8s-one", "xk8s-two"):
        install(tmp_path / "site", name, "99.1", "xk8s==99.1")
    # Also for who names neither: which overlays are used is found out by asking all of them.
    for words in (("plan", "debian"), ("plan", "xk8s-one", "debian"), ("explain", "debian.suite")):
        done = xk8s(tmp_path, *words)
        assert done.returncode == PluginError.exit_code, done.stderr
        assert (
            f"different versions are installed together: xk8s {MINE} and xk8s-one 99.1, "
            "xk8s-two 99.1"
        ) in done.stderr
        assert f"pip install xk8s-one=={MINE} xk8s-two=={MINE}" in done.stderr
    verb = xk8s(tmp_path, "t-xk8s-one")
    assert verb.returncode == PluginError.exit_code
    assert f"xk8s-one 99.1 requires xk8s==99.1, but {MINE} is installed" in verb.stderr


def test_with_a_mixture_one_can_still_look_and_end_what_runs(tmp_path: Path) -> None:
    install(tmp_path / "site", "xk8s-one", "99.1", "xk8s==99.1")
    shown = xk8s(tmp_path, "--help")
    assert shown.returncode == 0
    assert "Refused: xk8s-one 99.1 requires xk8s==99.1" in " ".join(shown.stdout.split())
    listed = json.loads(xk8s(tmp_path, "overlays", "--json").stdout)
    (mine,) = [item for item in listed if item["name"] == "xk8s-one"]
    assert mine["refused"] == f"xk8s-one 99.1 requires xk8s==99.1, but {MINE} is installed"
    assert xk8s(tmp_path, "status", "--all").returncode == 0
    assert xk8s(tmp_path, "down", "--all").returncode == 0


def test_a_mixture_that_is_denied_harms_nobody(tmp_path: Path) -> None:
    install(tmp_path / "site", "xk8s-one", "99.1", "xk8s==99.1")
    allow = ("-s", "plugins.allow=xk8s-debian")
    done = xk8s(tmp_path, "plan", "debian", *allow)
    assert done.returncode == 0, done.stderr
    denied = xk8s(tmp_path, "plan", "xk8s-one", "debian", *allow)
    assert denied.returncode == UsageError.exit_code


def test_others_say_which_xk8s_they_need_at_least(tmp_path: Path) -> None:
    install(tmp_path / "site", "acme-old", "3", "xk8s>=0.0.1")
    install(tmp_path / "site", "acme-new", "3", "xk8s>=99")
    assert xk8s(tmp_path, "plan", "debian", "acme-old").returncode == 0
    done = xk8s(tmp_path, "plan", "debian", "acme-new")
    assert done.returncode == PluginError.exit_code
    assert f"acme-new 3 requires xk8s>=99, but {MINE} is installed" in done.stderr
    assert "install versions of xk8s and acme-new that belong together" in done.stderr
