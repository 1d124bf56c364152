"""The docs say what is true: made pages are current, commands parse, links lead somewhere."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from xk8s.cli import app
from xk8s.cli.session import CliSession

from tests.cluster.shared import README
from tools.docs.pages import pages

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the docs are not part of the package")

BLOCK = re.compile(r"^```console( [^\n]*)?\n(.*?)^```$", re.M | re.S)
"""What the words behind "console" mean, and who runs the commands: tests/doc_blocks.py."""


def documents() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def commands() -> Iterator[tuple[str, str]]:
    """(document, command line) of each ``$`` line that runs something of ours."""
    for path in documents():
        for _, body in BLOCK.findall(path.read_text()):
            for line in body.splitlines():
                if line.startswith("$ ./run "):
                    yield str(path.relative_to(ROOT)), line.removeprefix("$ ")


@pytest.mark.parametrize("name", sorted(pages(ROOT)))
def test_made_pages_are_current(name: str) -> None:
    assert (DOCS / name).read_text() == pages(ROOT)[name](), "run: ./run python tools/docs pages"


def dry_parse(words: list[str]) -> None:
    """Parse as `xk8s` would, down to the last subcommand; raises what it would."""
    command: click.Command = app.xk8s
    context = command.make_context("xk8s", words, obj=CliSession())
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command, context = found, found.make_context(name, rest, parent=context)


@pytest.mark.parametrize(("document", "line"), sorted(set(commands())))
def test_commands_parse(document: str, line: str) -> None:
    words = shlex.split(line)
    assert words[0] == "./run"
    if words[1] == "xk8s":
        dry_parse(words[2:])
    else:
        assert words[1] in {
            "coverage",
            "prek",
            "pytest",
            "python",
            "sphinx-build",
            "towncrier",
            "true",
            "uv",
        }


def test_a_wrong_command_would_not_parse() -> None:
    with pytest.raises(click.UsageError):
        dry_parse(["up", "--nods", "3", "kubernetes"])


def test_the_readmes_two_commands_are_what_ci_runs() -> None:
    all_of_it = [line for document, line in commands() if document == "README.md"]
    two = [all_of_it[0], all_of_it[-1]]
    assert two == ["./run xk8s up kubernetes coredns externalip", "./run pytest"]
    script = (ROOT / ".ci" / "run").read_text()
    assert re.search(r"^\./run pytest( </dev/null)?$", script, re.M)
    # The suite starts the first command's cluster.
    assert list(README.up) == two[0].split()[3:]
    smoke = (ROOT / "tests" / "cluster" / "test_smoke.py").read_text()
    assert 'cluster("up", *README.up' in smoke


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_the_readme_is_one_screen_to_the_first_cluster() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.partition("## From here")[0].splitlines()) <= 60


# --- the table "from xcluster to xk8s" ----------------------------------------------------

TABLE = DOCS / "explanation" / "from-xcluster.md"


def rows() -> list[tuple[str, str, str]]:
    """(xcluster's way, ours, what proves it) of every row."""
    found = []
    for line in TABLE.read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 3 and cells[0] != "xcluster" and not set(cells[0]) <= {"-"}:
            found.append((cells[0], cells[1], cells[2]))
    return found


def known_tests() -> set[str]:
    """``file.py::test_name`` of every test of the workspace."""
    files = [
        path
        for place in ("core/tests", "plugins", "tests")
        for path in (ROOT / place).rglob("test_*.py")
        if ".venv" not in path.parts
    ]
    return {
        f"{path.name}::{node.name}"
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_each_row_names_the_test_that_proves_it_or_why_none_can() -> None:
    known = known_tests()
    assert len(rows()) > 30
    for theirs, _, proof in rows():
        named = re.findall(r"`(\w+\.py::\w+)`", proof)
        assert set(named) <= known, f"{theirs}: {set(named) - known}"
        reason = re.search(r"\*\*internet\*\*: \S.{10,}", proof)
        assert named or reason, f"{theirs}: neither a test nor a reason"


def test_commands_in_the_table_parse() -> None:
    lines = {
        line
        for _, ours, _ in rows()
        for line in re.findall(r"`([^`]+)`", ours)
        if line.startswith("xk8s ")
    }
    assert len(lines) > 20
    for line in sorted(lines):
        words = [word for word in shlex.split(line.replace("\\|", "|")) if word != "…"]
        try:
            dry_parse(words[1:])
        except Exception as error:
            raise AssertionError(f"{line}: {error}") from error
