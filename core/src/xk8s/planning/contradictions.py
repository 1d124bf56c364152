"""Contradictions of overlays: one thing that they set to different values."""

from __future__ import annotations

from collections.abc import Iterable

from xk8s.errors import PlanError
from xk8s.util import typecheck


def check_values(given: Iterable[tuple[str, str, object]], where: str) -> None:
    """Raise `PlanError`, which names the overlays, if ``given`` (overlay, thing, value) has
    different values of one thing.
    """
    seen: dict[str, tuple[str, object]] = {}
    for overlay, thing, value in given:
        other, earlier = seen.setdefault(thing, (overlay, value))
        if earlier == value:
            continue
        who = (
            f"overlays {other!r} and {overlay!r} both set"
            if other != overlay
            else f"overlay {other!r} sets twice"
        )
        raise PlanError(
            f"{who} {thing}: to {typecheck.shown(earlier)} and to {typecheck.shown(value)}",
            where=where,
            hint="leave one of them out, or ask its authors for a setting",
        )
