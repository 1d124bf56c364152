"""Docstrings and tables as Markdown."""

from __future__ import annotations

import re
import textwrap


def row(*cells: str) -> str:
    """A line of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def markdown(docstring: str) -> str:
    """A docstring's literal blocks (``::`` and what is indented) as fenced Python."""
    blocks: list[str] = []
    for block in re.split(r"\n\n(?=\S)", docstring):
        lead, colons, code = block.partition("::\n\n")
        if colons and code.startswith("    "):
            blocks += [f"{lead}:", f"```python\n{textwrap.dedent(code).rstrip()}\n```"]
        else:
            blocks.append(block)
    return re.sub(r"``([^`\n]+)``", r"`\1`", "\n\n".join(blocks))
