"""requirements.lock fits the pyprojects, and no registry is named in the project."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
ENTRY = re.compile(
    r"^(\S+?)==(\S+)((?: ;.*)?) \\$((?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?)+)$", re.M
)


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lock", ROOT / "tools" / "lock.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


lock = _load()
PINS = {match[1]: match[2] for match in ENTRY.finditer(lock.LOCK.read_text())}


def test_every_line_of_the_lock_is_a_pin_with_hashes_or_a_comment() -> None:
    rest = ENTRY.sub("", lock.LOCK.read_text())
    assert [line for line in rest.splitlines() if line and not line.startswith("#")] == []


@pytest.mark.parametrize("text", lock.requirements())
def test_every_requirement_is_locked_and_satisfied(text: str) -> None:
    requirement = Requirement(text)
    name = lock.canonical(requirement.name)
    assert name in PINS, "run: ./run python tools/lock.py"
    assert requirement.specifier.contains(PINS[name], prereleases=True), (
        "run: ./run python tools/lock.py"
    )


def test_own_packages_are_not_locked() -> None:
    assert not {name for name in PINS if name.startswith("xk8s")}


# In pieces, so that this file does not name them itself.
HOSTS = [
    "py" + r"pi\.org", "python" + r"hosted\.org", "pro" + r"xy\.golang\.org",
    "sum" + r"\.golang\.org", "deb" + r"\.debian\.org", "security" + r"\.debian\.org",
    "snapshot" + r"\.debian\.org", "ftp[.a-z]*" + r"\.debian\.org", "npm" + r"js\.org",
    "crates" + r"\.io", "maven" + r"\.org", "rubygems" + r"\.org", "goproxy" + r"\.[a-z]+",
]  # fmt: skip


def tracked() -> list[Path]:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git, or no clone: nothing says which files are the project's")
    return [ROOT / name for name in done.stdout.split("\0") if name]


def test_no_registry_is_named_in_any_tracked_file() -> None:
    pattern = re.compile("|".join(HOSTS).encode())
    files = [path for path in tracked() if path.is_file() and not path.is_symlink()]
    assert len(files) > 20
    assert [str(path) for path in files if pattern.search(path.read_bytes())] == []
    assert pattern.search(b"https://" + b"py" + b"pi.org/simple")
