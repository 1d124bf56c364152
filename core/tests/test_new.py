"""`xk8s new`: a distribution that works, made whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from xk8s.cli import app
from xk8s.errors import HostError, UsageError
from xk8s.scaffold.new import check_overlay_name, make_overlay

Run = Callable[..., str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("new") / "my-overlay"
    make_overlay("my-overlay", directory)
    return directory


@pytest.fixture(scope="module")
def run(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a Python module where the made distribution is installed (its wheel, built and unpacked
    with what is here: no index is asked).
    """
    site = tmp_path_factory.mktemp("site")

    def call(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=made, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        assert done.returncode == code, done.stdout
        return done.stdout

    call("uv", "pip", "install", "--offline", "--no-deps", "--no-build-isolation",
         "--target", str(site), str(made))  # fmt: skip
    return call


def test_its_tests_pass(run: Run) -> None:
    assert re.search(r"3 passed, 2 deselected", run("pytest", "-p", "no:cacheprovider"))


def test_its_tests_fail_when_it_is_broken(run: Run, made: Path) -> None:
    settings = made / "src/xk8s_my_overlay/settings.py"
    before = settings.read_text()
    settings.write_text(before.replace('"what /etc/my-overlay.conf says"', '""'))
    try:
        # What is tested is what is here, not the copy that is installed.
        said = run("pytest", "-p", "no:cacheprovider", "-o", "pythonpath=src", code=1)
    finally:
        settings.write_text(before)
    assert "the setting my-overlay.text has no description" in said


def test_the_command_knows_it(run: Run) -> None:
    assert "xk8s-my-overlay 0.1.0" in run("xk8s.cli", "overlays")
    assert "what /etc/my-overlay.conf says" in run("xk8s.cli", "explain", "my-overlay.text")
    assert "default  hello" in run("xk8s.cli", "explain", "my-overlay.text")


def test_it_is_typed_and_tidy(run: Run, made: Path) -> None:
    run("mypy", "--strict", "--cache-dir", os.devnull, "src", "tests")
    run("ruff", "check", "--no-cache", "--isolated", "--line-length", "100", "--select",
        "B,D1,E,F,I,UP,W", "--per-file-ignores", "tests/*:D", ".")  # fmt: skip
    run("ruff", "format", "--no-cache", "--isolated", "--line-length", "100", "--check", ".")


def test_nothing_of_the_template_is_left_in_it(made: Path) -> None:
    for path in made.rglob("*"):
        assert "{{" not in path.name
        assert path.suffix != ".jinja"
        if path.is_file() and path.suffix != ".j2":
            assert not re.search(r"\{\{|\{%|\}\}", path.read_text()), path
    (template,) = made.rglob("*.j2")
    assert template.read_text() == "text = {{ text }}\n", "that one is for xk8s"


def test_its_project_says_what_it_is(made: Path) -> None:
    project = tomllib.loads((made / "pyproject.toml").read_text())["project"]
    assert project["name"] == "xk8s-my-overlay"
    assert project["entry-points"] == {"xk8s.v1": {"my-overlay": "xk8s_my_overlay.overlay"}}
    ci = yaml.safe_load((made / ".github/workflows/test.yaml").read_text())
    steps = [step.get("run") for step in ci["jobs"]["test"]["steps"]]
    assert steps[-2:] == ["pip install --find-links wheels -e '.[test]'", "pytest"]


def test_its_changelog_is_made_of_fragments(made: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(made, project)
    (project / "changes/7.fix.md").write_text("It says what was given.\n")
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "towncrier", "build", "--yes", "--version", "0.2.0"],
        cwd=project, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = (project / "CHANGELOG.md").read_text()
    assert text.startswith("# Changelog of xk8s-my-overlay\n")
    assert "## 0.2.0 (" in text
    assert "- It says what was given. (#7)" in text
    assert not (project / "changes/7.fix.md").exists()


def test_its_pages_lead_somewhere_and_name_its_files(made: Path) -> None:
    for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "changes/README.md"):
        page = made / name
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), target
    for row in re.findall(r"^\|.*\|$", (made / "CONTRIBUTING.md").read_text(), re.M)[2:]:
        paths = re.findall(r"`([^`]+)`", row)
        assert paths
        for path in paths:
            assert (made / path).exists(), path


def test_it_has_the_licence_of_xk8s_and_asks_for_a_report(made: Path) -> None:
    project = tomllib.loads((made / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    assert "END OF TERMS AND CONDITIONS" in (made / "LICENSE").read_text()
    form = yaml.safe_load((made / ".github/ISSUE_TEMPLATE/bug.yml").read_text())
    assert "xk8s report" in [field["attributes"]["label"] for field in form["body"]][1]
    hooks = yaml.safe_load((made / ".pre-commit-config.yaml").read_text())
    assert [entry["repo"] for entry in hooks["repos"]] == ["local"]


def test_the_template_runs_nothing() -> None:
    config = yaml.safe_load((files("xk8s.scaffold") / "template/copier.yml").read_text())
    assert {key for key in config if key.startswith("_")} == {"_subdirectory", "_templates_suffix"}


def test_copier_makes_the_same_of_the_template(made: Path, tmp_path: Path) -> None:
    copier = pytest.importorskip("copier", reason="only a clone of the repository has it")
    answers = {
        "name": "my-overlay",
        "package": "xk8s_my_overlay",
        "distribution": "xk8s-my-overlay",
        "version": version("xk8s"),
    }
    make_overlay("my-overlay", tmp_path / "ours")
    copier.run_copy(
        str(files("xk8s.scaffold") / "template"), tmp_path / "theirs", data=answers,
        defaults=True, quiet=True,
    )  # fmt: skip
    ours, theirs = (
        {
            path.relative_to(tmp_path / side): path.read_bytes()
            for path in (tmp_path / side).rglob("*")
            if path.is_file()
        }
        for side in ("ours", "theirs")
    )
    assert ours == theirs


def test_no_program_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert make_overlay("my-overlay", tmp_path / "new")


@pytest.mark.parametrize(
    ("name", "why", "do"),
    [
        ("My_Overlay", "is not a name", "my-overlay"),
        ("", "is not a name", "my-overlay"),
        ("../x", "is not a name", ": x"),
        ("a--b", "is not a name", "a-b"),
        ("-x", "is not a name", ": x"),
        ("x-", "is not a name", ": x"),
        ("4you", "is not a name", ": you"),
        ("ä", "is not a name", "my-overlay"),
        ("x\n", "is not a name", ": x"),
        ("a" * 33, "is not a name", ": " + "a" * 32),
        ("cluster", "settings of xk8s itself", "my-cluster"),
        ("plugins", "settings of xk8s itself", "my-plugins"),
        ("check", "a verb of xk8s", "my-check"),
        ("kubernetes", "is already installed", "my-kubernetes"),
    ],
)
def test_a_bad_name_is_refused_with_a_better_one(name: str, why: str, do: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        check_overlay_name(name)
    assert do in caught.value.hint


def test_the_command_refuses_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert app.run(["new", "Bad Name"]) == 2
    assert "bad-name" in capsys.readouterr().err
    assert app.run(["new", "my-overlay"]) == 0
    assert "my-overlay/pyproject.toml" in capsys.readouterr().out.splitlines()
    assert app.run(["new", "my-overlay"]) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert app.run(["new", "my-overlay", "--directory", "other/place"]) == 0
    assert (tmp_path / "other/place/README.md").is_file()


def test_nothing_is_overwritten_unless_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "notes").write_text("mine too")
    with pytest.raises(UsageError, match=r"^README\.md would be overwritten"):
        make_overlay("my-overlay", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "notes"]
    assert (tmp_path / "README.md").read_text() == "mine"
    make_overlay("my-overlay", tmp_path, overwrite=True)
    assert (tmp_path / "README.md").read_text() != "mine"
    assert (tmp_path / "notes").read_text() == "mine too"


def test_what_a_link_leads_to_is_never_written(tmp_path: Path) -> None:
    other = tmp_path / "theirs"
    other.write_text("theirs")
    directory = tmp_path / "new"
    directory.mkdir()
    (directory / "README.md").symlink_to(other)
    (directory / "pyproject.toml").symlink_to(tmp_path / "nothing")
    with pytest.raises(UsageError, match=r"README\.md, pyproject\.toml would be"):
        make_overlay("my-overlay", directory)
    make_overlay("my-overlay", directory, overwrite=True)
    assert other.read_text() == "theirs"
    assert not (tmp_path / "nothing").exists()


def test_where_nothing_can_be_written_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match=r"cannot write .*file.*: Not a directory"):
        make_overlay("my-overlay", tmp_path / "file" / "new")


@pytest.mark.parametrize("there", [False, True])
def test_a_disk_that_gets_full_leaves_nothing_of_it_mocked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    directory = tmp_path / "new"
    if there:
        directory.mkdir()
        (directory / "README.md").write_text("mine")
    real = Path.write_bytes

    def write_bytes(path: Path, data: bytes) -> int:
        if path.is_relative_to(directory) and "settings" in path.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(HostError, match="No space left on device"):
        make_overlay("my-overlay", directory, overwrite=True)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files == ([directory / "README.md"] if there else [])
    assert directory.exists() == there
    assert not there or (directory / "README.md").read_text() == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_cannot_be_written_over_is_left(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "src").write_text("a file")
    with pytest.raises(UsageError, match=r"src is in the way: it is not a directory"):
        make_overlay("my-overlay", tmp_path, overwrite=overwrite)
    (tmp_path / "src").unlink()
    (tmp_path / "README.md").mkdir()
    with pytest.raises(UsageError, match=r"README.md is in the way: it is a directory"):
        make_overlay("my-overlay", tmp_path, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
