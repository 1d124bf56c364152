"""Keep what all distributions of the workspace share alike: version, sibling pins, license.

``./run python -m tools.distributions`` copies the version of core/pyproject.toml to every other
distribution, pins their requirements of each other to exactly that version, and copies LICENSE.
``./run python -m tools.distributions 0.2.0`` sets a new version first.

Each pyproject.toml has these values in plain text, so that a distribution builds alone, also from
its source archive, which cannot reach above its own directory.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from tools.lock import ROOT, pyprojects

_VERSION = re.compile(r'^version = "([^"]*)"$', re.MULTILINE)
_SIBLING = re.compile(r'"(xk8s(?:-[a-z0-9-]+)?)(\[[a-z,]+\])?(?:==[^"]*)?"(?=[,\s\]])')
_ARRAYS = re.compile(r"^[a-z-]+ = \[.*?\]$", re.MULTILINE | re.DOTALL)
_NEW = re.compile(r"\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?")


def distributions(root: Path = ROOT) -> tuple[Path, ...]:
    """Every distribution's pyproject.toml, the core's first."""
    return tuple(path for path in pyprojects(root) if path.parent != root)


def version(root: Path = ROOT) -> str:
    """Return the version of all of them: that of the core."""
    project = tomllib.loads((root / "core" / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def aligned(text: str, new: str, names: frozenset[str]) -> str:
    """Return the text of a pyproject.toml with that version, and ``names`` pinned to it."""

    def pin(match: re.Match[str]) -> str:
        if match[1] not in names:
            return match[0]
        return f'"{match[1]}{match[2] or ""}=={new}"'

    text = _VERSION.sub(f'version = "{new}"', text, count=1)
    # Only arrays of requirements: `name` and `keywords` may have the same words.
    return _ARRAYS.sub(
        lambda array: array[0] if array[0].startswith("keywords") else _SIBLING.sub(pin, array[0]),
        text,
    )


def align(new: str, root: Path = ROOT) -> tuple[Path, ...]:
    """Write what differs; the paths written."""
    paths = distributions(root)
    names = frozenset(tomllib.loads(path.read_text())["project"]["name"] for path in paths)
    wanted = {path: aligned(path.read_text(), new, names) for path in paths}
    wanted |= {path.parent / "LICENSE": (root / "LICENSE").read_text() for path in paths}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        path.write_text(wanted[path])
    return tuple(stale)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("version", nargs="?", default=version(), help="default: the core's own")
    new = parser.parse_args(arguments).version
    if not _NEW.fullmatch(new):
        parser.error(f"{new!r} is not a version such as 0.2.0 or 0.2.0rc1")
    for path in align(new):
        print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
