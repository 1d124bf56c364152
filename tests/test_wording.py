"""Pages, docstrings, comments and texts of the program are plain English: tools/wording.toml."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wording", ROOT / "tools" / "wording.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


wording = _load()
RULES = wording.habits()


def test_no_habit_comes_back() -> None:
    lines = [line for path in wording.sources() for line in wording.findings(path, RULES)]
    assert not lines, "\n".join(lines)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.pattern.pattern[:40])
def test_each_rule_finds_its_examples(rule: Any) -> None:
    for text in rule.unwanted:
        assert rule.find(wording.Passage(line=1, text=text, is_docstring=True)), text
    for text in rule.fine:
        assert not rule.find(wording.Passage(line=1, text=text, is_docstring=True)), text


def found(source: str, name: str, tmp_path: Path) -> list[str]:
    path = tmp_path / name
    path.write_text(source)
    lines = [line.split("\n")[0] for line in wording.findings(path, RULES)]
    return [line.removeprefix(f"{tmp_path}/").partition(": write")[0] for line in lines]


def test_habits_of_a_page_are_found_where_they_are(tmp_path: Path) -> None:
    page = (
        "# Title\n\nThis is\nno page.\n\n```text\nmade anew\n```\n\n- one `anew`\n- two anew\n\n"
        "| a | b |\n| --- | --- |\n| fine | made anew |\n"
    )
    assert found(page, "page.md", tmp_path) == [
        "page.md:3: 'is no'",
        "page.md:11: 'anew'",
        "page.md:15: 'anew'",
    ]


def test_a_generated_page_is_left_to_its_source(tmp_path: Path) -> None:
    assert found("# T\n\n<!-- Made by docgen -->\n\nmade anew\n", "page.md", tmp_path) == []


def test_habits_of_a_module_are_found_in_docstrings_texts_and_comments(tmp_path: Path) -> None:
    module = (
        '"""Of the module."""\n\n'
        "def f(anew: int) -> str:\n"
        '    """Return it.\n\n    Of no importance, made anew.\n    """\n'
        "    # This is\n"
        "    # no comment\n"
        '    return f"the file {anew} is no " f"kubeconfig" + "anew"\n'
    )
    assert sorted(found(module, "m.py", tmp_path)) == [
        "m.py:10: 'is no'",
        "m.py:1: 'Of'",
        "m.py:4: 'anew'",
        "m.py:8: 'is no'",
    ]


def test_what_is_searched() -> None:
    names = {str(path.relative_to(ROOT)) for path in wording.sources()}
    assert {
        "README.md",
        "docs/howto/apply.md",
        "tools/wording.py",
        "core/src/xk8s/errors.py",
    } <= names
    assert any(name.startswith("plugins/kubernetes/src/") for name in names)
    assert not any("/tests/" in name for name in names)
