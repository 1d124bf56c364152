"""`GoModule`: programs built with Go from a pinned go.mod and go.sum."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock

from xk8s.build.artifacts.attempt import Attempt
from xk8s.build.artifacts.sources import go_toolchain
from xk8s.errors import BuildError, SourceFailed
from xk8s.sources import GoModule, Provenance
from xk8s.util.files import file_digest
from xk8s.util.paths import cache_lock

KIND = "Go module"


def provide(source: GoModule, wanted: frozenset[str], attempt: Attempt) -> list[Provenance]:
    """Build the missing members only, all in one call of Go (they share most packages)."""
    try:
        minimum = go_toolchain.wanted(source.go_mod)
    except ValueError as error:
        raise SourceFailed(str(error)) from error
    go = go_toolchain.find(minimum, attempt)
    module = attempt.work / "module"
    module.mkdir()
    texts = {**source.extra_files, "go.mod": source.go_mod, "go.sum": source.go_sum}
    for name, text in texts.items():
        path = module / name
        if not path.resolve().is_relative_to(module.resolve()):
            raise SourceFailed(f"extra file {name!r} is not inside the module")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    packages = {member: source.packages[member] for member in sorted(wanted)}
    try:
        for batch in batches(packages):
            _build(source, batch, go, module, attempt)
    except BuildError as error:
        raise SourceFailed(str(error), log=error.log) from error
    versions = modules(source.go_mod)
    return [
        Provenance(
            member=member,
            kind=KIND,
            detail=f"{_origin(package, versions)}, Go {go.version}",
            sha256=file_digest(attempt.out / member),
        )
        for member, package in packages.items()
    ]


def _build(
    source: GoModule, packages: dict[str, str], go: go_toolchain.Go, module: Path, attempt: Attempt
) -> None:
    environment = go_toolchain.environment(offline=attempt.offline)
    flags = ["-mod=readonly", "-trimpath", "-buildvcs=false"]
    if source.tags:
        flags += ["-tags", ",".join(source.tags)]
    paths = sorted(packages.values())
    built = attempt.work / "bin"
    built.mkdir(exist_ok=True)
    attempt.progress.item(attempt.name, "getting modules")
    listed = attempt.work / "packages"
    attempt.run(
        [go.program, "list", *flags, "-deps", "-f", "{{.ImportPath}}", *paths],
        cwd=module,
        env=environment,
        stdout=listed,  # apart: it would push an error out of the log's tail
    )
    total = len(listed.read_text().splitlines())
    compiled = 0

    def show(line: str) -> None:
        # -v names each package when its compilation begins; those in Go's cache are not.
        nonlocal compiled
        if line and not line.startswith(("go: ", "#", "\t")):
            compiled += 1
            attempt.progress.item(attempt.name, f"compiling {line}", done=compiled, total=total)

    # A Go build takes the whole machine: one at a time, whoever started it.
    lock = FileLock(cache_lock(attempt.cache, "go-build"))
    attempt.jobs.acquire(
        lock, lambda: attempt.progress.item(attempt.name, "waiting for another Go build")
    )
    try:
        attempt.run(
            [
                go.program, "build", *flags, "-v", "-ldflags", f"-s -w {source.ldflags}".strip(),
                "-o", f"{built}/", *paths,
            ],
            cwd=module,
            env=environment,
            on_line=show,
        )  # fmt: skip
    finally:
        lock.release()
    for member, package in packages.items():
        target = attempt.out / member
        target.parent.mkdir(parents=True, exist_ok=True)
        (built / program_name(package)).rename(target)


def batches(packages: dict[str, str]) -> Iterable[dict[str, str]]:
    """Split so that no two programs of one call have the same file name, and no package is
    there twice.
    """
    left = dict(packages)
    while left:
        batch: dict[str, str] = {}
        names: set[str] = set()
        for member, package in left.items():
            if program_name(package) not in names:
                names.add(program_name(package))
                batch[member] = package
        yield batch
        left = {member: package for member, package in left.items() if member not in batch}


def program_name(package: str) -> str:
    """Return the file name that `go build` gives a program: the last element of its import path, or
    the one before when that is a major version.
    """
    *before, last = package.split("/")
    if before and re.fullmatch(r"v([2-9]|[1-9]\d+)", last):
        return before[-1]
    return last


def modules(go_mod: str) -> dict[str, str]:
    """Required modules and their versions, after replacement."""
    found: dict[str, str] = {}
    replaced: dict[str, str] = {}
    block = ""
    for raw in go_mod.splitlines():
        words = raw.partition("//")[0].split()
        if len(words) == 2 and words[1] == "(":
            block = words[0]
        elif words == [")"]:
            block = ""
        elif words:
            verb, rest = (block, words) if block else (words[0], words[1:])
            if verb == "require" and len(rest) == 2:
                found[rest[0]] = rest[1]
            elif verb == "replace" and "=>" in rest:
                replaced[rest[0]] = " ".join(rest[rest.index("=>") + 1 :])
    return {path: replaced.get(path, version) for path, version in found.items()}


def _origin(package: str, versions: dict[str, str]) -> str:
    """Return the module that has the package, with its version; of a main package of our own: what
    it requires first.
    """
    owners = [path for path in versions if package == path or package.startswith(f"{path}/")]
    if owners:
        best = max(owners, key=len)
        return f"{best} {versions[best]}"
    first = next(iter(versions), "")
    return f"{package} with {first} {versions.get(first, '')}" if first else package
