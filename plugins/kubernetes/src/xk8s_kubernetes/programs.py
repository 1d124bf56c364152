"""Verification of the programs of Kubernetes before a VM is started with them: whether they can run
in the guest, are what their names say, and have versions that work together. None of them is run
for that.
"""

from __future__ import annotations

import mmap
import re
from pathlib import Path

from attrs import frozen
from xk8s.errors import ArtifactError
from xk8s.recipe import Inspection
from xk8s.sources import OWN_DIRECTORY

from xk8s_kubernetes.elf import X86_64, NotElf, read_elf
from xk8s_kubernetes.versions import APISERVER, POLICY, Version, parse, skew

LOADER = "/lib64/ld-linux-x86-64.so.2"
GLIBC = (2, 41)
LIBRARIES = frozenset(
    {"ld-linux-x86-64.so.2", "libc.so.6", "libdl.so.2", "libm.so.6", "libpthread.so.0",
     "libresolv.so.2", "librt.so.1", "libutil.so.1"}
)  # fmt: skip
"""Libraries that every base system has: those of glibc. A program that needs more has to be
static.
"""

_STAMP = re.compile(rb"v\d+\.\d+\.\d+[-+0-9A-Za-z.]{0,120}\0")
"""A string that the linker's -X put into the program ends with a zero byte; Go's own strings do
not. So does the name of Go's package crypto/internal/entropy/v1.0.0, behind a slash. (To have the
slash in the pattern makes the search thirty times slower.)"""

_BUILD_INFO = b"\xff Go buildinf:"
_INFO_SIZE = 1 << 16
_PATH = re.compile(rb"path\t\S*/([\w-]+)\n")
_MODULE = re.compile(rb"(?:mod|dep)\tk8s\.io/kubernetes\t(\S+)")


@frozen(kw_only=True)
class Program:
    """A program of Kubernetes: ``name`` that it was built as ("" if unknown), ``version`` None if
    it contains none.
    """

    name: str
    version: Version | None


def check(given: Inspection) -> None:
    """Verify, as `Artifact.verify`: `ArtifactError` for programs that cannot run or do not work
    together.
    """
    _check(given, strict=True)


def check_without_skew(given: Inspection) -> None:
    """Verify with ``allow_skew``: versions cause only a note."""
    _check(given, strict=False)


def _check(given: Inspection, *, strict: bool) -> None:
    found: dict[str, Program] = {}
    for member in sorted(origin.member for origin in given.provenance):
        path = given.path / member
        if why := unfit(path):
            raise _error(given, f"{member} cannot run in the VMs: it is {why}", member)
        program = read_program(path)
        if program.name and program.name != member:
            raise _error(given, f"the file {member} is {program.name}", member)
        found[member] = program
    versions = {
        name: program.version for name, program in found.items() if program.version is not None
    }
    own = {origin.member for origin in given.provenance if origin.kind == OWN_DIRECTORY}
    unknown = sorted(own - versions.keys())
    if unknown:
        given.note(
            f"{', '.join(unknown)}: built without a version, so whether it fits the others is "
            "not checked"
        )
    problems, advice = skew(versions)
    for text in advice:
        given.note(text)
    if problems and not strict:
        for text in problems:
            given.note(f"{text}: not supported by Kubernetes, allowed by kubernetes.allow_skew")
    elif problems:
        raise ArtifactError(
            f"these programs do not work together: {'; '.join(problems)}",
            where="; ".join(f"{name} from {given.origin(name)}" for name in _named(problems, own)),
            hint=f"build the others from the same source, too, or use its version for the rest "
            f"(-s kubernetes.version=…), see {POLICY}; to try it anyway: "
            "-s kubernetes.allow_skew=true",
        )


def unfit(path: Path) -> str:
    """Return why a program cannot run in the guest; empty if nothing prevents it."""
    try:
        elf = read_elf(path)
    except NotElf as error:
        return str(error)
    if elf.machine != X86_64:
        return f"built for {elf.architecture}, and the VMs are x86-64"
    if elf.interpreter and elf.interpreter != LOADER:
        return f"linked with {elf.interpreter}, which the VMs do not have"
    if missing := sorted(set(elf.needed) - LIBRARIES):
        return f"linked with {', '.join(missing)}, which the VMs do not have"
    if elf.glibc > GLIBC:
        wanted, there = (".".join(map(str, version)) for version in (elf.glibc, GLIBC))
        return f"linked with glibc {wanted}, but the VMs have {there}"
    return ""


def read_program(path: Path) -> Program:
    """Return what a Go program contains about itself: the stamp of the build scripts, else what Go
    recorded about its module.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        stamps = {
            match.group()[:-1].decode()
            for match in _STAMP.finditer(data)
            if data[match.start() - 1 : match.start()] != b"/"
        }
        start = data.find(_BUILD_INFO)
        info = data[start : start + _INFO_SIZE] if start >= 0 else b""
    name = _PATH.search(info)
    module = _MODULE.search(info)
    versions = {parse(text) for text in stamps} - {None}
    version = versions.pop() if len(versions) == 1 else None
    if version is None and module is not None:
        version = parse(module[1].decode(errors="replace"))
    return Program(name=name[1].decode() if name else "", version=version)


def _named(problems: list[str], own: set[str]) -> list[str]:
    """Return the programs that the problems are about: the API server, and those of the user."""
    text = " ".join(problems)
    return [name for name in sorted({APISERVER, *own}) if re.search(rf"\b{name} v", text)]


def _error(given: Inspection, message: str, member: str) -> ArtifactError:
    return ArtifactError(
        message,
        where=given.origin(member),
        hint="build it for linux/amd64 and static (GOOS=linux GOARCH=amd64 CGO_ENABLED=0), or "
        "leave it out: another source then provides it",
    )
