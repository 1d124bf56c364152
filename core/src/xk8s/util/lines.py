"""Lines of text that others wrote (guests above all), cut before any pattern looks at them."""

from __future__ import annotations

from pathlib import Path

MAX_LINE = 16 << 10
"""Characters of a line; a pattern may need their square in steps."""

MAX_TEXT = 16 << 20
"""Bytes of one file that are read at all: its end."""

_TAIL = 256


def cut_line(line: str, limit: int = MAX_LINE) -> str:
    """Return the line, or the beginning and the last characters of a longer one, with a note."""
    if len(line) <= limit:
        return line
    end = line[-min(_TAIL, limit // 4) :]
    omitted = len(line) - limit
    note = f" [{omitted} characters omitted] "
    return line[: limit - len(end) - len(note)] + note + end


def cut_lines(text: str, limit: int = MAX_LINE) -> str:
    """Return the text with each line cut."""
    if len(text) <= limit:
        return text
    return "\n".join(cut_line(line, limit) for line in text.split("\n"))


def read_end(path: Path, limit: int = MAX_TEXT) -> str:
    """Return the text of a file, the last ``limit`` bytes of a longer one."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - limit))
        return file.read(limit).decode(errors="replace")
