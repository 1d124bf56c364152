"""All distributions have one version, pin each other to it, and say the same of themselves."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tools import distributions

ROOT = Path(__file__).resolve().parent.parent


def projects(root: Path = ROOT) -> dict[str, dict[str, Any]]:
    paths = (root / "core" / "pyproject.toml", *root.glob("plugins/*/pyproject.toml"))
    tables = [tomllib.loads(path.read_text())["project"] for path in paths]
    return {table["name"]: table for table in tables}


def requirements(project: dict[str, Any]) -> list[Requirement]:
    extras = project.get("optional-dependencies", {}).values()
    texts = [*project.get("dependencies", ()), *(text for extra in extras for text in extra)]
    return [Requirement(text) for text in texts]


PROJECTS = projects()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    for path in (ROOT / "core", *sorted(ROOT.glob("plugins/*"))):
        if (path / "pyproject.toml").exists():
            copy = tmp_path / path.relative_to(ROOT)
            copy.mkdir(parents=True)
            shutil.copy(path / "pyproject.toml", copy)
            shutil.copy(path / "LICENSE", copy)
    for name in ("LICENSE", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def pins_of(found: dict[str, dict[str, Any]]) -> set[str]:
    """Every way in which one distribution of ours requires another."""
    return {
        str(requirement.specifier)
        for project in found.values()
        for requirement in requirements(project)
        if requirement.name in found
    }


def test_all_have_one_version_and_pin_each_other_to_it(workspace: Path) -> None:
    version = distributions.version()
    assert {project["version"] for project in PROJECTS.values()} == {version}
    assert pins_of(PROJECTS) == {f"=={version}"}
    assert distributions.align(version, workspace) == (), "run: ./run python -m tools.distributions"


def test_a_new_version_is_everywhere_and_nothing_else_changes(workspace: Path) -> None:
    before = projects(workspace)
    assert len(distributions.align("2.0.0rc1", workspace)) == len(PROJECTS)
    after = projects(workspace)
    assert pins_of(after) == {"==2.0.0rc1"}
    assert {project["version"] for project in after.values()} == {"2.0.0rc1"}
    distributions.align(distributions.version(), workspace)
    assert projects(workspace) == before


def test_a_sibling_without_a_pin_gets_one_and_a_lost_license_comes_back(workspace: Path) -> None:
    etcd = workspace / "plugins" / "etcd"
    text = (etcd / "pyproject.toml").read_text()
    (etcd / "pyproject.toml").write_text(
        text.replace(f'"xk8s=={distributions.version()}"', '"xk8s", "xk8s-no-sibling>=1"')
    )
    (etcd / "LICENSE").unlink()
    assert len(distributions.align(distributions.version(), workspace)) == 2
    found = {str(requirement) for requirement in requirements(projects(workspace)["xk8s-etcd"])}
    assert found == {f"xk8s=={distributions.version()}", "xk8s-no-sibling>=1"}
    assert (etcd / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


@pytest.mark.parametrize("word", ["v2", "2.0-beta", "", "2.0\n"])
def test_what_is_not_a_version_is_refused(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        distributions.main([word])
    assert "is not a version" in capsys.readouterr().err


def test_the_standard_one_with_its_extra_brings_every_overlay() -> None:
    standard = PROJECTS["xk8s-standard"]
    named = [requirement.name for requirement in requirements(standard)]
    overlays = [name for name, project in PROJECTS.items()
                if "xk8s.v1" in project.get("entry-points", {})]  # fmt: skip
    assert len(overlays) > 10
    assert sorted(named) == sorted(["xk8s", *overlays])


def test_the_workspace_has_all_of_them() -> None:
    root = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(root["tool"]["uv"]["sources"]) == PROJECTS.keys()
    assert set(root["project"]["dependencies"]) == PROJECTS.keys()


@pytest.mark.parametrize("name", PROJECTS)
def test_each_says_what_it_is(name: str) -> None:
    project, core = PROJECTS[name], PROJECTS["xk8s"]
    assert project["license"] == "Apache-2.0"
    assert project["license-files"] == ["LICENSE"]
    for key in ("authors", "requires-python", "classifiers", "urls"):
        assert project.get(key) == core.get(key), key
    assert project["keywords"]
    assert 20 < len(project["description"]) <= 100
    directory = "core" if name == "xk8s" else f"plugins/{name.removeprefix('xk8s-')}"
    assert (ROOT / directory / project["readme"]).read_text().startswith(f"# {name}\n")


def test_no_two_say_the_same() -> None:
    descriptions = {project["description"] for project in PROJECTS.values()}
    assert len(descriptions) == len(PROJECTS)
