"""Sizes, ages and durations as people read them, and as they type them."""

from __future__ import annotations

import re
import time

import click

_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def size_text(size: int) -> str:
    """Bytes, with one digit behind the point."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} B"


def ago(when: float) -> str:
    """Return how long ago a time (in seconds since 1970) was."""
    seconds = max(0.0, time.time() - when)
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name} ago"
    return "just now"


_DURATION = re.compile(r"(\d+)\s*(s|m|min|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_duration(text: str) -> int | None:
    """Return the seconds of ``30s``, ``5m`` (or ``5min``), ``2h``, ``7d`` or ``2w``; None for any
    other text.
    """
    match = _DURATION.fullmatch(text.strip())
    return int(match[1]) * _SECONDS[match[2]] if match else None


def parse_size(ctx: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """A callback for options like ``20G`` or ``512M``, in bytes."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", value.strip(), re.IGNORECASE)
    if not found:
        raise click.BadParameter(f"{value!r} is not like 512M, 20G or 1.5T", ctx, parameter)
    return int(float(found[1]) * (1 << _UNITS[found[2].upper()]))
