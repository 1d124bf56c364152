"""Text of guests on the user's terminal: what would move its cursor or change it is taken out."""

from __future__ import annotations

import re

_CONTROLS = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC: titles, links
    r"|\x1b.?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


def without_controls(text: str, instead: str = "") -> str:
    """Return the text without control sequences and characters, except for newlines and tabs."""
    return _CONTROLS.sub(instead, text)
