"""Style and types are part of the suite: `./run pytest` is all that CI needs to call."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.smoke

ROOT = Path(__file__).resolve().parent.parent


def sources() -> list[str]:
    """Every package's source directory."""
    packages = [ROOT / "core" / "src", *sorted(ROOT.glob("plugins/*/src"))]
    return [str(path) for path in packages] + [str(ROOT / "tools")]


def files_of_tests() -> list[str]:
    return ["core/tests", "tests", *(str(path) for path in sorted(ROOT.glob("plugins/*/tests")))]


# Tests may leave out types and make up objects. What they call must be there and take what it is
# given: some run only where there are VMs, long after the function has changed.
LOOSE = [
    "no-untyped-def",
    "no-untyped-call",
    "arg-type",
    "union-attr",
    "attr-defined",
    "unused-ignore",
    "misc",
    "unreachable",
    "func-returns-value",
    "assignment",
    "type-arg",
    "no-any-return",
    "list-item",
    "import-not-found",
    "var-annotated",
    "valid-type",
    "index",
    "operator",
    "call-overload",
    "comparison-overlap",
]


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "ruff", "check"],
        ["-m", "ruff", "format", "--check"],
        ["-m", "mypy", "--strict", *sources()],
        [
            "-m",
            "mypy",
            "--explicit-package-bases",
            *(f"--disable-error-code={code}" for code in LOOSE),
            *files_of_tests(),
        ],
        ["-m", "codespell_lib"],
        # It has no module for -m. Its contracts are in pyproject.toml.
        ["-c", "import importlinter.cli; importlinter.cli.lint_imports_command()", "--no-cache"],
    ],
    ids=["ruff check", "ruff format", "mypy", "mypy of tests", "codespell", "import-linter"],
)
def test_lint(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
