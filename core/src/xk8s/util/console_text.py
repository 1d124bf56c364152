"""Text of guests on the user's terminal: what would move its cursor or change it is taken out."""

from __future__ import annotations

import json
import re

_CONTROLS = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?"  # OSC: titles, links
    r"|\x1b[^\n]?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
    r"|[\u202a-\u202e\u2066-\u2069]"  # the direction of writing: it shows another order
)
_IN_JSON = re.compile("[\x7f-\x9f]")


def without_controls(text: str, instead: str = "") -> str:
    """Return the text without control sequences and characters, except for newlines and tabs."""
    return _CONTROLS.sub(instead, text)


def json_text(value: object, *, indent: int | None = None) -> str:
    """Return JSON that can be shown: json itself escapes only the control characters of ASCII."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=str)
    return _IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
