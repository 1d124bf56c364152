"""Style and types are part of the suite: `./run pytest` is all that CI needs to call."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.smoke

ROOT = Path(__file__).resolve().parent.parent


def sources() -> list[str]:
    """Every package's source directory: tests are checked by ruff only."""
    packages = [ROOT / "core" / "src", *sorted(ROOT.glob("plugins/*/src"))]
    return [str(path) for path in packages] + [str(ROOT / "tools")]


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "ruff", "check"],
        ["-m", "ruff", "format", "--check"],
        ["-m", "mypy", "--strict", *sources()],
        ["-m", "codespell_lib"],
        # It has no module for -m. Its contracts are in pyproject.toml.
        ["-c", "import importlinter.cli; importlinter.cli.lint_imports_command()", "--no-cache"],
    ],
    ids=["ruff check", "ruff format", "mypy", "codespell", "import-linter"],
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
