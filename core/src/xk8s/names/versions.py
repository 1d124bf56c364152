"""Whether a distribution fits the version of xk8s that is installed beside it.

The distributions of this project pin each other exactly: they have one version, and a mixture was
never tested. Installers see to it, but not all do at all times (`pip install --no-deps`, a second
directory on PYTHONPATH), and what fails then fails somewhere else. Those of others say which xk8s
they need at least, as `xk8s new` writes it; anything else that a requirement can say is left to
the installers.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

CORE = "xk8s"

_REQUIREMENT = re.compile(r"xk8s\s*(?:\[[^]]*\])?\s*\(?\s*([=><!~][^;)]*?)\s*\)?\s*(?:;(.*))?")
_CLAUSE = re.compile(r"(==|>=)\s*([^\s*]+)")
_NUMBERS = re.compile(r"\d+(\.\d+)*")


@functools.cache
def core_version() -> str:
    """Return the version of xk8s itself, "" when it is not installed but run from its sources."""
    try:
        return version(CORE)
    except PackageNotFoundError:
        return ""


def core_requirement(requirements: Iterable[str]) -> str:
    """Return what the lines of Requires-Dist say of the version of xk8s: ``==0.1.0``, ``>=0.1``,
    "".
    """
    for line in requirements:
        match = _REQUIREMENT.fullmatch(line.strip())
        if match is not None and "extra" not in (match[2] or ""):
            return match[1]
    return ""


def is_met(requirement: str, installed: str) -> bool:
    """Return whether that version of xk8s will do. What is not understood counts as met."""
    if not installed:
        return True
    for clause in requirement.split(","):
        match = _CLAUSE.fullmatch(clause.strip())
        if match is None:
            continue
        wanted, found = _key(match[2]), _key(installed)
        if match[1] == "==":
            met = found == wanted
        elif isinstance(wanted, tuple) and isinstance(found, tuple):
            met = found >= wanted
        else:
            met = True
        if not met:
            return False
    return True


def _key(text: str) -> tuple[int, ...] | str:
    """Numbers without zeros at the end, so that 1.0 is 1; a pre-release as it is written."""
    text = text.partition("+")[0]
    if not _NUMBERS.fullmatch(text):
        return text
    numbers = [int(part) for part in text.split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
