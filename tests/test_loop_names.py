"""A loop variable is named after what it holds: `snapshot`, `layer`, `node`."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.smoke

ROOT = Path(__file__).resolve().parent.parent

SAYS_NOTHING = frozenset({"one", "its"})


def nameless(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and name of each variable of a loop, a comprehension or a lambda that says
    nothing about its value.
    """
    for node in ast.walk(ast.parse(source)):
        bound: list[ast.AST] = []
        if isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
            bound = list(ast.walk(node.target))
        elif isinstance(node, ast.Lambda):
            bound = list(ast.walk(node.args))
        for inner in bound:
            if isinstance(inner, ast.Name | ast.arg):
                name = inner.id if isinstance(inner, ast.Name) else inner.arg
                if name in SAYS_NOTHING:
                    yield inner.lineno, name


def modules() -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.py"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def test_loop_variables_say_what_they_hold() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in modules()
        for line, name in nameless(path.read_text())
    ]
    assert not found, "name these after what they hold:\n" + "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "for one in nodes: pass",
        "async def f():\n async for one in nodes: pass",
        "for key, (one, other) in nodes: pass",
        "x = [one.name for one in nodes]",
        "x = {key: its for key, its in nodes}",
        "x = any(a for a in b for one in a)",
        "sorted(nodes, key=lambda one: one.name)",
    ],
)
def test_each_kind_of_loop_is_searched(source: str) -> None:
    assert [name for _, name in nameless(source)] in (["one"], ["its"])


def test_other_uses_of_the_words_are_left_alone() -> None:
    source = "def same(one, other):\n    one = one or other\n    return [node for node in one]"
    assert list(nameless(source)) == []
