"""`GoRelease`: a version of a Go module that is not pinned here, verified by Go's own database.

The version's go.mod says which modules it is made of; for each of them the sum comes from the
checksum database that Go is set to ask (`go env GOSUMDB`), a public log that every user of Go
compares with. What comes out is a `GoModule` like the pinned ones, and built as these are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from xk8s.build.artifacts.attempt import Attempt
from xk8s.build.artifacts.sources import go_module, go_toolchain
from xk8s.errors import BuildError, SourceFailed
from xk8s.sources import GoModule, GoRelease, Provenance

_OLDEST_GO = "1.21"
"""Enough to read a go.mod; the one that is read says what it takes to build."""

_PLACEHOLDER = "v0.0.0"
_SHOWN = 12


def provide(source: GoRelease, wanted: frozenset[str], attempt: Attempt) -> list[Provenance]:
    """Make go.mod and go.sum for the version, then build as for `GoModule`."""
    work = attempt.work / "sums"
    work.mkdir()
    ask = _Asker(attempt, go_toolchain.find(_OLDEST_GO, attempt), work)
    database = ask.text("env", "GOSUMDB")
    if database in ("", "off"):
        raise SourceFailed(
            "Go's checksum database is switched off (go env GOSUMDB), and nothing else could "
            f"verify {source.module} {source.version}"
        )
    attempt.progress.item(attempt.name, f"getting {source.module} {source.version}")
    given = ask.json("mod", "edit", "-json", _go_mod_of(source, ask))
    text = go_mod(source, given)
    ask = _Asker(attempt, go_toolchain.find(go_toolchain.wanted(text), attempt), work)
    (work / "go.mod").write_text(text)
    (work / "go.sum").unlink(missing_ok=True)
    attempt.progress.item(attempt.name, "getting modules")
    packages = sorted({source.packages[member] for member in wanted})
    ask.text("list", "-deps", "-f", "{{.ImportPath}}", *packages)
    module = GoModule(
        go_mod=(work / "go.mod").read_text(),
        go_sum=(work / "go.sum").read_text(),
        packages=source.packages,
        ldflags=source.ldflags,
        tags=source.tags,
    )
    built = go_module.provide(module, wanted, attempt)
    return [
        evolve(origin, detail=f"{origin.detail}, sums of {database.split()[0]}") for origin in built
    ]


def go_mod(source: GoRelease, given: Mapping[str, Any]) -> str:
    """Return the go.mod of a module that requires just this version; ``given`` is the version's own
    one as `go mod edit -json` prints it. Replacements count in a main module only, so they are
    repeated here. `SourceFailed` when it needs ``staging`` and the source has none.
    """
    lines = ["module xk8s.invalid/build", f"go {given['Go']}"]
    lines += [
        f"godebug {directive['Key']}={directive['Value']}"
        for directive in given.get("Godebug") or ()
    ]
    lines.append(f"require {source.module} {source.version}")
    inside = {
        required["Path"]
        for required in given.get("Require") or ()
        if required["Version"] == _PLACEHOLDER
    }
    if inside and not source.staging:
        raise SourceFailed(
            f"{source.module} {source.version} is not made of published modules: "
            + ", ".join(sorted(inside)[:_SHOWN])
        )
    lines += [f"replace {path} => {path} {source.staging}" for path in sorted(inside)]
    for replacement in given.get("Replace") or ():
        old, new = replacement["Old"], replacement["New"]
        # Without a version it leads to a directory of the module's repository.
        if "Version" in new and old["Path"] not in inside:
            lines.append(f"replace {_pair(old)} => {_pair(new)}")
    return "\n".join(lines) + "\n"


@frozen
class _Asker:
    """Calls of Go in a module of our own."""

    attempt: Attempt
    go: go_toolchain.Go
    work: Path

    def text(self, *words: str | Path) -> str:
        """Return what it prints; `SourceFailed` with the reason when it fails."""
        said = self.work / "said"
        try:
            self.attempt.run(
                [self.go.program, *words], cwd=self.work, env=self._environment(), stdout=said
            )
        except BuildError as error:
            raise SourceFailed(_reason(said, error), log=error.log) from error
        return said.read_text().strip()

    def json(self, *words: str | Path) -> dict[str, Any]:
        """Return what it prints, as JSON."""
        found: dict[str, Any] = json.loads(self.text(*words))
        return found

    def _environment(self) -> dict[str, str]:
        # GONOSUMDB (GOPRIVATE is its default) would exempt modules from being verified; it
        # cannot be set to nothing, so to what no module is called.
        return {
            **go_toolchain.environment(offline=self.attempt.offline),
            "GOFLAGS": "-mod=mod",
            "GONOSUMDB": "xk8s.invalid",
        }


def _go_mod_of(source: GoRelease, ask: _Asker) -> Path:
    """Return the version's own go.mod, in Go's cache; `SourceFailed` names existing versions."""
    (ask.work / "go.mod").write_text(f"module xk8s.invalid/ask\ngo {_OLDEST_GO}\n")
    name = f"{source.module}@{source.version}"
    try:
        return Path(ask.json("mod", "download", "-json", name)["GoMod"])
    except SourceFailed as error:
        try:
            known = ask.text("list", "-m", "-versions", "-f", "{{join .Versions \" \"}}",
                             source.module).split()  # fmt: skip
        except SourceFailed:
            raise error from None
        if source.version in known:
            raise
        raise SourceFailed(
            f"there is no {name}: there are {', '.join(near(source.version, known))}",
            log=error.log,
        ) from None


def near(version: str, known: Sequence[str]) -> Sequence[str]:
    """Return versions with the same minor version, else the latest ones; ``known`` is in ascending
    order.
    """
    minor = version.rpartition(".")[0] + "."
    same = [release for release in known if release.startswith(minor)]
    return (same or [release for release in known if "-" not in release])[-_SHOWN:]


def _reason(said: Path, error: BuildError) -> str:
    """One line of what Go says; all of it goes to the error's log."""
    try:  # `go mod download -json` has it in its JSON
        error.log = str(json.loads(said.read_text())["Error"])
        return error.log.splitlines()[0]
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        lines = [line for line in error.log.splitlines() if line.strip()]
    # Sums are looked up behind the downloads, and a wrong one is followed by a long explanation.
    wrong = [line for line in lines if "verifying" in line]
    return re.sub(r"^go: ", "", (wrong or lines[-1:] or [str(error)])[0])


def _pair(module: Mapping[str, str]) -> str:
    return f"{module['Path']} {module['Version']}" if "Version" in module else module["Path"]
