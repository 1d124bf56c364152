"""The files that people and their tools read first: they are complete, and they work."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from xk8s.scaffold.new import make_overlay

ROOT = Path(__file__).resolve().parent.parent
GITHUB = ROOT / ".github"
WORKFLOWS = sorted(GITHUB.glob("workflows/*.yml"))
ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "changes/README.md")
CORE = ROOT / "core/src/xk8s"
CORE_TESTS = ROOT / "core/tests"


def run(*words: str | Path, cwd: Path, code: int = 0) -> str:
    """Run a program of the environment; its output, standard error included."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name(str(words[0]))), *map(str, words[1:])],
        cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    return done.stdout


def tracked() -> list[Path]:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git, or no clone: nothing says which files are the project's")
    return [ROOT / name for name in done.stdout.split("\0") if name]


def test_the_licence_is_whole_and_that_of_new_overlays() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert (CORE / "scaffold/template/template/LICENSE").read_text() == text


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), target


# --- the source map of CONTRIBUTING.md ----------------------------------------------------


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its first two lines."""
    text = (ROOT / "CONTRIBUTING.md").read_text().partition(f"\n## {heading}\n")[2]
    table = re.search(r"(?:^\|.*\n)+", text, re.M)
    assert table is not None, heading
    lines = table[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def named(cell: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", cell)


def listed() -> list[str]:
    """What the table of folders has, in its order; the public modules are no folder."""
    names = [named(row[0]) for row in rows("Where things are")]
    return [words[0] for words in names if words != ["xk8s/"]]


MAP = rows("I want to change …")


@pytest.mark.parametrize(
    ("subject", "places", "tests", "command"), MAP, ids=[row[0] for row in MAP]
)
def test_the_source_map_is_true(subject: str, places: str, tests: str, command: str) -> None:
    assert named(places), subject
    for place in named(places):
        assert (CORE / place).exists() or (ROOT / place).exists(), place
    paths = {path for test in named(tests) for path in (CORE_TESTS / test, ROOT / test)}
    found = {path for path in paths if path.exists()}
    assert len(found) == len(named(tests)) > 0, tests
    (line,) = named(command)
    words = line.split()
    assert words[:2] == ["./run", "pytest"]
    # The command runs tests of the row, and nothing else.
    for word in words[2:]:
        assert any(path.is_relative_to(ROOT / word) for path in found), word


def test_the_source_map_has_every_folder_and_plugin() -> None:
    assert len(MAP) >= 20
    folders = {path.name for path in CORE.iterdir() if (path / "__init__.py").exists()}
    assert folders == {name.rstrip("/") for name in listed() if name.endswith("/")}
    mapped = {place.split("/")[0] for row in MAP for place in named(row[1])}
    assert folders - {"util"} <= mapped | {"util"}


def test_the_order_of_folders_is_that_of_the_imports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (contract,) = [
        contract
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract.get("containers") == ["xk8s"]
    ]
    order = [name for name in reversed(contract["layers"]) if ":" not in name]
    assert [name.rstrip("/").removesuffix(".py") for name in listed()] == order


def test_paths_in_the_recipes_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("\n## Recipes\n")[2]
    text = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S)
    paths = [path for path in named(text) if re.match(r"(core|docs|plugins|tests|tools)/", path)]
    assert len(paths) > 10
    for path in paths:
        if "NAME" not in path:
            assert (ROOT / path).exists(), path


# --- the changelog ----------------------------------------------------------------------


@pytest.fixture
def changelog(tmp_path: Path) -> Path:
    """A project with this one's changelog and settings, and no fragments."""
    for name in ("pyproject.toml", "CHANGELOG.md", "changes/README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    run_git(tmp_path)
    return tmp_path


def run_git(directory: Path) -> None:
    """Make it a repository with everything in it."""
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *words], cwd=directory, check=True)


def test_the_next_release_can_be_written() -> None:
    draft = run("towncrier", "build", "--draft", "--version", "99.0", cwd=ROOT)
    assert "## 99.0 (" in draft
    for fragment in (ROOT / "changes").glob("*.md"):
        if fragment.name != "README.md":
            text = fragment.read_text()
            assert text.split()[-1] in draft, fragment
            assert "](" not in text, "a link leads nowhere on one of the two pages that show it"


def test_a_release_takes_fragments_of_every_type(changelog: Path) -> None:
    types = re.findall(r"^\| `(\w+)` \|", (changelog / "changes/README.md").read_text(), re.M)
    assert len(types) > 3
    for number, kind in enumerate(types):
        (changelog / f"changes/{number}.{kind}.md").write_text(f"Words about {kind}.\n")
    run("towncrier", "build", "--yes", "--version", "1.2.3", cwd=changelog)
    text = (changelog / "CHANGELOG.md").read_text()
    assert re.search(r"^## 1\.2\.3 \(\d{4}-\d\d-\d\d\)$", text, re.M)
    for number, kind in enumerate(types):
        assert f"- Words about {kind}. (#{number})" in text
    assert text.index("release notes start") < text.index("## 1.2.3"), "above older releases"
    assert [path.name for path in (changelog / "changes").iterdir()] == ["README.md"]


def test_a_fragment_of_an_unknown_type_is_an_error(changelog: Path) -> None:
    (changelog / "changes/7.novelty.md").write_text("Lost.\n")
    words = ("towncrier", "build", "--draft", "--version", "1.2.3")
    assert "7.novelty.md" in run(*words, cwd=changelog, code=1)


# --- editors and hooks ------------------------------------------------------------------


def test_files_are_as_editorconfig_says() -> None:
    wrong = []
    for path in tracked():
        if path.is_symlink() or not path.is_file() or path.suffix == ".ambr":
            continue
        data = path.read_bytes()
        if "logs" in path.parts or b"\0" in data or not data:
            continue
        if b"\r\n" in data or not data.endswith(b"\n") or re.search(rb"[ \t]+$", data, re.M):
            wrong.append(str(path.relative_to(ROOT)))
    assert wrong == []


def test_the_hooks_of_pre_commit_are_valid_and_repair_a_file(tmp_path: Path) -> None:
    run("prek", "validate-config", ".pre-commit-config.yaml", cwd=ROOT)
    for name in (".pre-commit-config.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    script = tmp_path / "run"
    script.write_text(
        f'#!/bin/sh\nprogram=$1; shift\nexec "{Path(sys.executable).parent}/$program" "$@"\n'
    )
    script.chmod(0o755)
    source = tmp_path / "a.py"
    source.write_text('"""A module."""\n\nimport os\n\nA = {  "a":1 }\n')
    run_git(tmp_path)
    for hook in ("ruff-check", "ruff-format"):
        run("prek", "run", hook, "--all-files", cwd=tmp_path, code=1)
        run("prek", "run", hook, "--all-files", cwd=tmp_path)
    assert source.read_text() == '"""A module."""\n\nA = {"a": 1}\n'


def test_hooks_fetch_no_other_repository() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [entry["repo"] for entry in config["repos"]] == ["local"]
    for hook in config["repos"][0]["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].startswith("./run ")


# --- GitHub -----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def actionlint(pytestconfig: pytest.Config) -> str:
    """The program, built once per clone when it is not installed."""
    if program := shutil.which("actionlint"):
        return program
    assert pytestconfig.cache is not None
    directory = pytestconfig.cache.mkdir("actionlint")
    program = directory / "actionlint"
    if not program.exists():
        go = shutil.which("go")
        if go is None:
            pytest.skip("neither actionlint nor Go is installed: workflows are not checked")
        done = subprocess.run(
            ["env", f"GOBIN={directory}", go, "install", ACTIONLINT],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            pytest.skip(f"actionlint cannot be built: workflows are not checked\n{done.stderr}")
    return str(program)


def lint(actionlint: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    # Not with whatever shellcheck and pyflakes happen to be installed.
    words = [actionlint, "-no-color", "-shellcheck=", "-pyflakes=", *map(str, paths)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


def test_workflows_are_valid(actionlint: str) -> None:
    assert [path.name for path in WORKFLOWS] == ["release.yml", "tests.yml"]
    done = lint(actionlint, *WORKFLOWS)
    assert done.returncode == 0, done.stdout


def test_the_workflow_of_a_new_overlay_is_valid(actionlint: str, tmp_path: Path) -> None:
    make_overlay("my-overlay", tmp_path)
    (workflow,) = (tmp_path / ".github/workflows").iterdir()
    done = lint(actionlint, workflow)
    assert done.returncode == 0, done.stdout
    run("prek", "validate-config", ".pre-commit-config.yaml", cwd=tmp_path)


def test_a_mistake_in_a_workflow_is_found(actionlint: str, tmp_path: Path) -> None:
    text = (GITHUB / "workflows/tests.yml").read_text()
    assert "needs: fast" in text
    wrong = tmp_path / "tests.yml"
    wrong.write_text(text.replace("needs: fast", "needs: slow"))
    done = lint(actionlint, wrong)
    assert done.returncode == 1
    assert '"slow"' in done.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_pin_what_they_use_and_may_only_read(path: Path) -> None:
    text = path.read_text()
    uses = re.findall(r"uses: (.+)", text)
    assert uses
    for action in uses:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"], name
        assert "latest" not in job["runs-on"], name


def test_a_runner_gets_the_packages_that_run_would_install() -> None:
    # The line of the script that asks for them; the rest needs root and changes the machine.
    script = (GITHUB / "prepare-runner").read_text()
    (line,) = re.findall(r"^ *python3 (.*)$", script, re.M)
    done = subprocess.run(
        [sys.executable, *shlex.split(line)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {"qemu-system-x86", "erofs-utils", "python3-venv"} <= set(done.stdout.split())
    subprocess.run(["bash", "-n", GITHUB / "prepare-runner"], check=True)


def test_a_bug_is_reported_with_the_archive_of_a_report() -> None:
    forms = {path.stem: form(path) for path in GITHUB.glob("ISSUE_TEMPLATE/*.yml")}
    assert set(forms) == {"bug", "idea", "config"}
    (asked,) = [field for field in forms["bug"]["body"] if field.get("id") == "report"]
    assert "xk8s report" in asked["attributes"]["label"]
    assert asked["validations"]["required"] is True
    assert forms["config"]["blank_issues_enabled"] is False


def form(path: Path) -> dict[str, Any]:
    """A form as GitHub wants it: fields with unique ids and labels."""
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    if path.stem == "config":
        return found
    assert {"name", "description", "body"} <= set(found)
    ids = [field["id"] for field in found["body"] if field["type"] != "markdown"]
    assert len(ids) == len(set(ids))
    for field in found["body"]:
        assert "value" in field["attributes"] or "label" in field["attributes"], field
    return found
