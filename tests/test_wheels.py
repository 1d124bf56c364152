"""All distributions as wheels, installed outside of the repository: no VM is needed for these."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
from email.message import Message
from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.installed import ROOT, Installed

PROJECTS = {
    table["name"]: path.parent
    for path in (ROOT / "core/pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml")))
    for table in [tomllib.loads(path.read_text())["project"]]
}
STANDARD = ("kubernetes", "coredns", "externalip")
LIMIT = 20
"""Packages that `pip install xk8s` may bring, xk8s among them."""


def wheel(installed: Installed, name: str) -> zipfile.ZipFile:
    (path,) = installed.wheels.glob(f"{name.replace('-', '_')}-[0-9]*.whl")
    return zipfile.ZipFile(path)


def metadata(file: zipfile.ZipFile) -> Message:
    (name,) = [name for name in file.namelist() if name.endswith(".dist-info/METADATA")]
    return message_from_string(file.read(name).decode())


@pytest.mark.parametrize("name", PROJECTS)
def test_each_is_built_with_license_and_page_and_pins_its_siblings(
    installed: Installed, name: str
) -> None:
    with wheel(installed, name) as file:
        found = metadata(file)
        (license_,) = [name for name in file.namelist() if name.endswith("licenses/LICENSE")]
        assert file.read(license_) == (ROOT / "LICENSE").read_bytes()
    assert found["License-Expression"] == "Apache-2.0"
    assert str(found.get_payload()).strip() == (PROJECTS[name] / "README.md").read_text().strip()
    requirements = [Requirement(text) for text in found.get_all("Requires-Dist") or ()]
    siblings = [requirement for requirement in requirements if requirement.name in PROJECTS]
    assert {str(requirement.specifier) for requirement in siblings} <= {f"=={found['Version']}"}
    assert siblings or name == "xk8s"
    (archive,) = installed.wheels.glob(f"{name.replace('-', '_')}-[0-9]*.tar.gz")
    with tarfile.open(archive) as tar:
        assert all(member.isfile() for member in tar), "a link leads out of the archive"


def test_every_file_of_the_sources_is_in_the_wheels(installed: Installed) -> None:
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "core/src", "plugins"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode != 0:
        pytest.skip("no git, or no clone: nothing says which files are the project's")
    sources = {path.partition("/src/")[2] for path in listed.stdout.splitlines() if "/src/" in path}
    packed: set[str] = set()
    for name in PROJECTS:
        with wheel(installed, name) as file:
            packed.update(name for name in file.namelist() if ".dist-info/" not in name)
    assert packed == sources


def test_only_the_wheels_are_used(installed: Installed) -> None:
    code = "import xk8s, xk8s_kubernetes; print(xk8s.__file__, xk8s_kubernetes.__file__)"
    for path in installed.run("python", "-c", code).split():
        assert Path(path).is_relative_to(installed.directory / "venv"), path


def test_the_standard_cluster_is_planned_as_in_the_repository(installed: Installed) -> None:
    theirs = json.loads(installed.run("xk8s", "plan", *STANDARD, "--json"))
    ours = subprocess.run(
        [sys.executable, "-m", "xk8s.cli", "plan", *STANDARD, "--json"],
        cwd=installed.directory, env=installed.environment, capture_output=True, check=True,
    )  # fmt: skip
    assert theirs == json.loads(ours.stdout)


def test_a_new_overlay_is_made_installed_and_tested_as_its_own_files_say(
    installed: Installed,
) -> None:
    installed.run("xk8s", "new", "demo")
    demo = installed.directory / "demo"
    (demo / "wheels").symlink_to("../wheels")
    workflow = yaml.safe_load((demo / ".github/workflows/test.yaml").read_text())
    steps = [step["run"] for step in workflow["jobs"]["test"]["steps"] if "run" in step]
    assert steps[-1] == "pytest"
    (install,) = [step for step in steps if step.startswith("pip install")]
    assert f"    {install}\n" in (demo / "README.md").read_text()
    author = Installed(directory=installed.directory, venv="author")
    author.make_environment()
    for step in steps:
        shown = author.shell(step, "demo")
    assert "3 passed, 2 deselected" in shown
    assert re.search(r"^demo +xk8s-demo 0\.1\.0 ", author.run("xk8s", "overlays"), re.M)


def test_uv_tool_gives_the_command_and_its_overlays(installed: Installed) -> None:
    own = {
        "UV_TOOL_DIR": str(installed.directory / "tools"),
        "UV_TOOL_BIN_DIR": str(installed.directory / "bin"),
    }
    words = ("tool", "install", "--find-links", "wheels", "--with", "xk8s-standard", "xk8s")
    installed.run(sys.executable, "-m", "uv", *words, env=own)
    shown = installed.run("bin/xk8s", "plan", *STANDARD)
    assert "externalip  xk8s-externalip" in shown


def test_completion_for_each_shell_is_printed(installed: Installed) -> None:
    for shell in ("bash_source", "zsh_source", "fish_source"):
        script = installed.run("xk8s", env={"_XK8S_COMPLETE": shell})
        assert "_XK8S_COMPLETE" in script
    line = 'eval "$(_XK8S_COMPLETE=bash_source xk8s)"'
    assert "xk8s" in installed.run("bash", "-euc", f"{line}; complete -p xk8s")


def test_the_core_brings_few_packages(installed: Installed) -> None:
    (site,) = installed.directory.glob("venv/lib/python*/site-packages")
    required = {
        canonicalize_name(distribution.name): [
            Requirement(text) for text in distribution.requires or ()
        ]
        for distribution in distributions(path=[str(site)])
    }
    found = {"xk8s"}
    waiting = ["xk8s"]
    while waiting:
        for requirement in required[waiting.pop()]:
            name = canonicalize_name(requirement.name)
            is_meant = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if is_meant and name not in found:
                found.add(name)
                waiting.append(name)
    assert len(found) <= LIMIT, f"{len(found)}: {', '.join(sorted(found))}"
