"""What a guest agent answers, taken as data: a guest may answer anything at all.

Everything that is not as it has to be raises `BadAnswer`, which the caller makes an error that
names the VM.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from xk8s.util.console_text import without_controls

MAX_SHOWN = 300
"""Characters of an answer that an error shows."""
_INTEGER = 1 << 63


class BadAnswer(Exception):
    """An answer that makes no sense."""


class AnswerIsError(Exception):
    """The agent said that it could not do it."""


def returned(line: bytes) -> Any:
    """Return what an answer returns. Raises `AnswerIsError` with the agent's words."""
    try:
        reply = json.loads(line)
    except (ValueError, RecursionError):
        raise BadAnswer(f"it is not JSON: {shown(line)}") from None
    if isinstance(reply, dict) and "error" in reply:
        error = reply["error"]
        text = error.get("desc", error) if isinstance(error, dict) else error
        raise AnswerIsError(shown(text))
    if not isinstance(reply, dict) or "return" not in reply:
        raise BadAnswer(f"it has no result: {shown(line)}")
    return reply["return"]


def is_number(line: bytes, number: int) -> bool:
    """Return whether an answer returns this very number."""
    try:
        found = returned(line)
    except (BadAnswer, AnswerIsError):
        return False
    return isinstance(found, int) and found == number


def fields(answer: Any) -> dict[str, Any]:
    """Return an object."""
    if not isinstance(answer, dict):
        raise BadAnswer(f"it is not an object: {shown(answer)}")
    return answer


def integer(answer: Any, what: str, *, least: int = 0, most: int = _INTEGER - 1) -> int:
    """Return a number from ``least`` to ``most``."""
    if isinstance(answer, bool) or not isinstance(answer, int) or not least <= answer <= most:
        raise BadAnswer(f"{what} is {shown(answer)}")
    return answer


def truth(answer: Any, what: str) -> bool:
    """Return true or false."""
    if not isinstance(answer, bool):
        raise BadAnswer(f"{what} is {shown(answer)}")
    return answer


def data(answer: Any, what: str) -> bytes:
    """Return what stands there in base64."""
    try:
        if isinstance(answer, str):
            return base64.b64decode(answer, validate=True)
    except ValueError:
        pass
    raise BadAnswer(f"{what} is not base64: {shown(answer)}")


def shown(answer: object) -> str:
    """Return an answer as an error may show it: short, and without control characters."""
    if isinstance(answer, bytes):
        answer = answer[: 4 * MAX_SHOWN].decode(errors="replace")
    text = answer if isinstance(answer, str) else repr(answer)
    text = " ".join(without_controls(text[: 4 * MAX_SHOWN]).split())
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
