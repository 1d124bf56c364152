"""Find habits of language that xk8s does not want: ``./run python tools/wording.py [PATH …]``.

The habits and what to write instead are in wording.toml. Pages, docstrings, comments and texts of
the program are searched; code is not.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RULES = Path(__file__).with_name("wording.toml")
GENERATED = "<!-- Made by "
_FENCE = re.compile(r"^ *```.*?^ *```$", re.M | re.S)
# What is not English: code, links' targets, placeholders of formats.
_CODE = re.compile(r"``[^`]+``|`[^`]+`|\]\([^)]*\)|\{[^{}]*\}")
_BREAK = re.compile(r"\n[ \t]*\n|\n(?=[ \t]*(?:[-*#|>]|\d+\.) )|(?<=\|)\n")


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A piece of English: a paragraph, a docstring, a comment or a text of the program."""

    line: int
    text: str
    is_docstring: bool = False


@dataclass(frozen=True, kw_only=True)
class Habit:
    """A way to speak that is not wanted, and what to write instead."""

    pattern: re.Pattern[str]
    better: str
    unwanted: tuple[str, ...]
    fine: tuple[str, ...]
    only_first: bool

    def find(self, passage: Passage) -> str | None:
        """Return the words that show the habit."""
        if self.only_first:
            match = self.pattern.match(passage.text) if passage.is_docstring else None
        else:
            match = self.pattern.search(passage.text)
        return match[0].strip() if match else None


def habits(rules: Path = RULES) -> tuple[Habit, ...]:
    """Read the rules."""
    return tuple(
        Habit(
            pattern=re.compile(table["pattern"], re.I),
            better=table["better"],
            unwanted=tuple(table["not"]),
            fine=tuple(table["ok"]),
            only_first=table.get("only_first", False),
        )
        for table in tomllib.loads(rules.read_text())["habit"]
    )


def english(text: str) -> str:
    """Return a passage on one line, without code."""
    return " ".join(_CODE.sub("X", text).split())


def of_page(source: str) -> Iterator[Passage]:
    """Yield the paragraphs of a Markdown page; none of a generated one: its source is searched."""
    if GENERATED in source:
        return
    rest = _FENCE.sub(lambda match: "\n" * match[0].count("\n"), source)
    line, start = 1, 0
    for end in [*_BREAK.finditer(rest), None]:
        piece = rest[start : end.start() if end else None]
        if text := english(piece):
            yield Passage(
                line=line + piece.count("\n", 0, len(piece) - len(piece.lstrip())), text=text
            )
        if end:
            line += rest.count("\n", start, end.end())
            start = end.end()


def of_module(source: str) -> Iterator[Passage]:
    """Yield docstrings, other strings with several words, and comments of a Python module."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented)
        and node.body
        and isinstance(node.body[0], ast.Expr)
        and isinstance(node.body[0].value, ast.Constant)
    }
    for line, text, is_docstring in _strings(tree, docstrings):
        for number, paragraph in enumerate(re.split(r"\n\s*\n", text)):
            words = english(paragraph)
            if " " in words or is_docstring:
                yield Passage(line=line, text=words, is_docstring=is_docstring and number == 0)
    yield from _comments(source)


def _strings(tree: ast.Module, docstrings: set[int]) -> Iterator[tuple[int, str, bool]]:
    """Yield line, text and whether it is a docstring; what an f-string puts in becomes ``X``."""
    pieces = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            pieces |= {id(value) for value in node.values}
            values = [
                value.value if isinstance(value, ast.Constant) else "X" for value in node.values
            ]
            yield node.lineno, "".join(str(value) for value in values), False
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in pieces
        ):
            yield node.lineno, node.value, id(node) in docstrings


def _comments(source: str) -> Iterator[Passage]:
    start, last, lines = 0, 0, list[str]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if token.start[0] != last + 1 and lines:
            yield Passage(line=start, text=english(" ".join(lines)))
            lines = []
        if not lines:
            start = token.start[0]
        last = token.start[0]
        lines.append(token.string.lstrip("#! "))
    if lines:
        yield Passage(line=start, text=english(" ".join(lines)))


def sources(root: Path = ROOT) -> list[Path]:
    """Return what is searched: all pages, and the Python code of core, plugins and tools."""
    done = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.md", "*/src/*.py", "tools/*.py"],
        cwd=root, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return sorted(root / name for name in done.stdout.splitlines() if (root / name).is_file())


def findings(path: Path, rules: Iterable[Habit]) -> Iterator[str]:
    """Yield a line for each habit in a file."""
    source = path.read_text()
    passages = of_page(source) if path.suffix == ".md" else of_module(source)
    name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    for passage in passages:
        for rule in rules:
            if words := rule.find(passage):
                yield f"{name}:{passage.line}: {words!r}: write {rule.better}\n    {passage.text}"


def main(arguments: list[str]) -> int:
    """Print all findings; exit code 1 if there are any."""
    rules = habits()
    paths = [Path(argument).resolve() for argument in arguments] or sources()
    found = [line for path in paths for line in findings(path, rules)]
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
