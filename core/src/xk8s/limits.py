"""What a setting may be: ranges, patterns, addresses. A plan refuses anything else at once, with
exit code 2, so that it does not break a cluster later.

Each is given to `xk8s.overlay.setting` as ``limit=``. Choices need none: write ``Literal`` as the
type. No text of any setting may contain control characters or line breaks, with or without a limit,
since values end up in unit files and configurations.
"""

from __future__ import annotations

import ipaddress
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

_BREAKS = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode's categories of control characters, half characters and line breaks."""

_RELEASE = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:[-+][0-9A-Za-z.+-]{1,40})?")
_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"(?=.{{1,200}}\Z){_LABEL}(?:\.{_LABEL})*")
_SIZE = re.compile(r"([1-9]\d{0,8})([KMG])")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@frozen
class Limit:
    """What a setting may be. ``text`` says it to people: "a number from 0 to 10"; ``allows`` raises
    ValueError, with the reason if there is one to add, for anything else.
    """

    text: str
    allows: Callable[[Any], None]
    complaint: str = ""

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with a value ("is out of range"), or None."""
        try:
            self.allows(value)
        except ValueError as error:
            return (self.complaint or f"is not {self.text}") + (f": {error}" if str(error) else "")
        return None


def between(least: float, most: float, *, zero: bool = False) -> Limit:
    """Return a range of numbers, both ends included; ``zero`` allows 0 beside it.

    >>> between(1, 5).problem(7)
    'is out of range'
    """

    def allows(value: float) -> None:
        if not (math.isfinite(value) and (least <= value <= most or (zero and value == 0))):
            raise ValueError

    text = f"{least} to {most}"
    return Limit(f"0, or {text}" if zero else text, allows, "is out of range")


def matching(pattern: str, text: str) -> Limit:
    """Return what a regular expression matches as a whole; ``text`` names it: "a DNS name"."""
    compiled = re.compile(pattern)

    def allows(value: str) -> None:
        if not compiled.fullmatch(value):
            raise ValueError

    return Limit(text, allows)


def line(most: int = 4096, *, empty: bool = True) -> Limit:
    """Return one line of any text: for what its user quotes, or what xk8s quotes for him."""

    def allows(value: str) -> None:
        if len(value) > most or not (value or empty):
            raise ValueError

    return Limit(f"{'at most' if empty else '1 to'} {most} characters in one line", allows)


def domain() -> Limit:
    """Return a DNS name in lower case, without the last dot."""
    return matching(_DOMAIN.pattern, "a DNS name such as cluster.local")


def release(least: str = "") -> Limit:
    """Return a release such as 2.4.2 or v1.36.3, not older than ``least`` ("2.0").

    >>> release("2.0").problem("1.7.0")
    'is not a release such as 2.0.0 or later'
    """
    oldest = tuple(int(part) for part in least.split(".")) if least else ()

    def allows(value: str) -> None:
        found = _RELEASE.fullmatch(value)
        if found is None or tuple(int(part) for part in found.groups()) < oldest:
            raise ValueError

    return Limit(f"a release such as {least}.0 or later" if least else "a release: X.Y.Z", allows)


def size(least: str, most: str) -> Limit:
    """Return a size with its unit: 64M, 2G; see `size_in_bytes`."""
    low, high = size_in_bytes(least), size_in_bytes(most)

    def allows(value: str) -> None:
        if not low <= size_in_bytes(value) <= high:
            raise ValueError

    return Limit(f"a size from {least} to {most}, with its unit (M, G)", allows)


def size_in_bytes(text: str) -> int:
    """Return the bytes of a size with a unit of 1024; ValueError for anything else.

    >>> size_in_bytes("64M")
    67108864
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError
    return int(found[1]) * _UNITS[found[2]]


def address(version: int | None = None) -> Limit:
    """Return an IP address, of that version or any."""

    def allows(value: str) -> None:
        if version not in (None, ipaddress.ip_address(value).version) or "%" in value:
            raise ValueError(f"not IPv{version}" if version else "")

    example = "1000::2" if version == 6 else "10.0.0.2"
    return Limit(f"an {_family(version)} address such as {example}", allows)


def prefix(version: int, least: int, most: int) -> Limit:
    """Return a prefix of an IP version, with a length from ``least`` to ``most``."""

    def allows(value: str) -> None:
        if "/" not in value:
            raise ValueError("it has no length")
        network = ipaddress.ip_network(value)
        if network.version != version:
            raise ValueError(f"it is IPv{network.version}")
        if not least <= network.prefixlen <= most:
            raise ValueError(f"its length is {network.prefixlen}, not {least} to {most}")

    example = f"10.0.0.0/{most}" if version == 4 else f"fd00::/{most}"
    return Limit(f"an IPv{version} prefix such as {example}", allows)


def each(limit: Limit) -> Limit:
    """Return a list whose every item keeps the limit."""

    def allows(values: Any) -> None:
        for value in values:
            _inner(limit, value, repr(value))

    return Limit(f"a list, each of it {limit.text}", allows, "has a wrong item")


def table(names: Limit, values: Limit | None = None) -> Limit:
    """Return a table whose names, and values, keep limits."""

    def allows(found: Mapping[str, Any]) -> None:
        for name, value in found.items():
            _inner(names, name, repr(name))
            if values is not None:
                _inner(values, value, f"{name}={value}")

    more = f" = {values.text}" if values is not None else ""
    return Limit(f"a table of {names.text}{more}", allows, "has a wrong entry")


def control_character(value: Any) -> str | None:
    """Return the first character of a value, and of what is in it, that no setting may have."""
    if isinstance(value, str):
        found = (letter for letter in value if unicodedata.category(letter) in _BREAKS)
        return next(found, None)
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return next(filter(None, map(control_character, value)), None)
    return None


def _inner(limit: Limit, value: Any, shown: str) -> None:
    if problem := limit.problem(value):
        raise ValueError(f"{shown} {problem}")


def _family(version: int | None) -> str:
    return f"IPv{version}" if version else "IP"


__all__ = [
    "Limit",
    "address",
    "between",
    "control_character",
    "domain",
    "each",
    "line",
    "matching",
    "prefix",
    "release",
    "size",
    "size_in_bytes",
    "table",
]
