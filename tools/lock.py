"""Write requirements.lock: every third-party package of the workspace, pinned and hashed.

Run it after a change of dependencies: ``./run python tools/lock.py`` (``--upgrade`` to take
newer versions). uv.lock is not used because it records the host names of registries.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def canonical(requirement: str) -> str:
    """Return the normalized project name (PEP 503) that a requirement starts with."""
    match = _NAME.match(requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def pyprojects(root: Path = ROOT) -> Iterator[Path]:
    """The workspace's pyproject files, the root's first, then by path."""
    yield root / "pyproject.toml"
    yield root / "core" / "pyproject.toml"
    yield from sorted(root.glob("plugins/*/pyproject.toml"))


def requirements(root: Path = ROOT) -> list[str]:
    """Third-party requirements of all distributions, of their builds, and of development."""
    own: set[str] = set()
    wanted: set[str] = set()
    for path in pyprojects(root):
        data = tomllib.loads(path.read_text())
        own.add(canonical(data["project"]["name"]))
        wanted.update(data["project"].get("dependencies", ()))
        wanted.update(data.get("build-system", {}).get("requires", ()))
        for extra in data["project"].get("optional-dependencies", {}).values():
            wanted.update(extra)
        for group in data.get("dependency-groups", {}).values():
            wanted.update(item for item in group if isinstance(item, str))
    return sorted(item for item in wanted if canonical(item) not in own)


def main() -> int:
    """Call uv; pins that are in the lock already stay unless ``--upgrade`` is given."""
    command = [
        "uv", "pip", "compile", "--quiet", "--generate-hashes", "--universal",
        "--no-emit-index-url", "--no-emit-find-links", "--no-annotate",
        "--python-version", "3.11", "--custom-compile-command", "./run python tools/lock.py",
        "--output-file", str(LOCK), *sys.argv[1:], "-",
    ]  # fmt: skip
    return subprocess.run(command, input="\n".join(requirements()), text=True).returncode


if __name__ == "__main__":
    sys.exit(main())
