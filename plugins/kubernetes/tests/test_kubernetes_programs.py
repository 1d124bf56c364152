"""Own programs before they are booted with: real ones, made by Go's linker and by hand."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from xk8s.build.artifacts.store import Store
from xk8s.errors import ArtifactError
from xk8s.progress import Silent
from xk8s.sources import Artifact, OwnDirectory
from xk8s_kubernetes.artifacts import MEMBERS, kubernetes_artifact
from xk8s_kubernetes.elf import NotElf, read_elf
from xk8s_kubernetes.programs import read_program, unfit
from xk8s_kubernetes.settings import KubernetesSettings

from tests.notes import Notes

needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="no go in PATH")

MAIN = """package main

import "fmt"

var gitVersion = "v0.0.0-master+$Format:%H$"

func main() { fmt.Println("Kubernetes", gitVersion) }
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module that is called as Kubernetes is, with its six programs."""
    root = tmp_path_factory.mktemp("kubernetes")
    (root / "go.mod").write_text("module k8s.io/kubernetes\n\ngo 1.21\n")
    for name in MEMBERS:
        (root / "cmd" / name).mkdir(parents=True)
        (root / "cmd" / name / "main.go").write_text(MAIN)
    return root


def build(source: Path, out: Path, name: str, version: str = "", **env: str) -> Path:
    """One program, built by Go as the build scripts of Kubernetes do: stripped, stamped by -X."""
    flags = "-s -w" + (f" -X main.gitVersion={version}" if version else "")
    target = out / name
    subprocess.run(
        ["go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", target,
         f"./cmd/{name}"],
        cwd=source,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off", **env},
        check=True,
    )  # fmt: skip
    return target


@pytest.fixture
def cache(own_places: Path) -> Path:
    return own_places / "cache"


def own(directory: Path, *members: str, **settings: object) -> Artifact:
    """The artifact `kubernetes` of these members, all of them the user's."""
    artifact = kubernetes_artifact(KubernetesSettings(dir=str(directory), **settings))
    return Artifact(
        name=artifact.name,
        version=artifact.version,
        members=members,
        sources=(OwnDirectory(path=str(directory)),),
        verify=artifact.verify,
    )


@needs_go
@pytest.mark.parametrize("version", ["v1.36.3-mine", "v1.37.0-alpha.0.123+abcdef0123456"])
def test_the_stamp_of_a_stripped_program_is_read_without_running_it(
    source: Path, tmp_path: Path, version: str
) -> None:
    path = build(source, tmp_path, "kubelet", version)
    said = subprocess.run([path], capture_output=True, text=True, check=True).stdout
    path.chmod(0o644)
    program = read_program(path)
    assert program.version is not None
    assert said == f"Kubernetes {program.version.text}\n"
    assert program.version.text == version
    assert program.name == "kubelet"
    assert unfit(path) == ""


@needs_go
def test_a_program_without_a_stamp_has_no_version(source: Path, tmp_path: Path) -> None:
    program = read_program(build(source, tmp_path, "kubelet"))
    assert program.version is None
    assert program.name == "kubelet"


@needs_go
def test_programs_that_fit_are_taken(source: Path, tmp_path: Path, cache: Path) -> None:
    mine = tmp_path / "mine"
    build(source, mine, "kube-apiserver", "v1.36.3")
    build(source, mine, "kubelet", "v1.33.1")
    build(source, mine, "kubectl", "v1.38.0")
    build(source, mine, "kube-proxy")
    notes = Notes()
    artifact = own(mine, "kube-apiserver", "kubelet", "kubectl", "kube-proxy")
    resolved = Store(cache).get(artifact, notes)
    assert (resolved.path / "kubelet").exists()
    assert any("kube-proxy: built without a version" in note for note in notes.notes)
    assert any("kubectl v1.38.0" in note for note in notes.notes)


@needs_go
def test_skew_is_an_error_before_anything_boots(source: Path, tmp_path: Path, cache: Path) -> None:
    mine = tmp_path / "mine"
    build(source, mine, "kube-apiserver", "v1.36.3")
    build(source, mine, "kubelet", "v1.37.0-alpha.0.123+abcdef")
    artifact = own(mine, "kube-apiserver", "kubelet")
    with pytest.raises(ArtifactError) as caught:
        Store(cache).get(artifact, Silent())
    error = caught.value
    assert "kubelet v1.37.0-alpha.0.123+abcdef is newer than kube-apiserver v1.36.3" in str(error)
    assert f"kubelet from own directory {mine}/kubelet" in error.where
    assert "kubernetes.allow_skew=true" in error.hint
    # The same files, for those who mean it.
    notes = Notes()
    meant = own(mine, "kube-apiserver", "kubelet", allow_skew=True)
    Store(cache).get(meant, notes)
    assert any("not supported by Kubernetes, allowed by" in note for note in notes.notes)
    # That they are in the cache now does not make them supported.
    with pytest.raises(ArtifactError):
        Store(cache).get(artifact, Silent())


@needs_go
def test_another_architecture_is_an_error(source: Path, tmp_path: Path, cache: Path) -> None:
    build(source, tmp_path / "mine", "kubelet", "v1.36.3", GOARCH="arm64")
    with pytest.raises(ArtifactError, match=r"kubelet cannot .*arm64.*x86-64") as at:
        Store(cache).get(own(tmp_path / "mine", "kubelet", allow_skew=True), Silent())
    assert "GOARCH=amd64" in at.value.hint


@needs_go
def test_a_program_under_anothers_name_is_an_error(
    source: Path, tmp_path: Path, cache: Path
) -> None:
    mine = tmp_path / "mine"
    build(source, mine, "kube-proxy", "v1.36.3").rename(mine / "kubelet")
    with pytest.raises(ArtifactError, match="the file kubelet is kube-proxy"):
        Store(cache).get(own(mine, "kubelet"), Silent())


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"#!/bin/bash\nexec kubelet.real\n", r"a script \(#!/bin/bash\)"),
        (b"", "an empty file"),
        (b"MZ\x90\0", "a program for Windows"),
        (b"\x7fELF\x02\x01\x01", "a damaged ELF file"),
        (b"hello", "not a program"),
    ],
)
def test_what_is_no_program_is_an_error(
    data: bytes, what: str, tmp_path: Path, cache: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "kubelet").write_bytes(data)
    (mine / "kubelet").chmod(0o755)
    with pytest.raises(ArtifactError, match=f"kubelet cannot run in the VMs: it is {what}"):
        Store(cache).get(own(mine, "kubelet"), Silent())


@needs_go
def test_a_program_that_is_still_being_written_is_an_error(source: Path, tmp_path: Path) -> None:
    whole = build(source, tmp_path, "kubelet", "v1.36.3").read_bytes()
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(NotElf, match="is a build still writing it"):
        read_elf(tmp_path / "half")


def elf(tmp_path: Path, interpreter: bytes, *strings: bytes, machine: int = 62) -> Path:
    """A dynamic program as linkers write it, as far as it is read here: a libc that this machine
    does not have cannot be linked with.
    """
    table = b"\0" + b"\0".join(strings) + b"\0"
    needed = [(1, table.index(text)) for text in strings if text.startswith(b"lib")]
    start = 64 + 3 * 56
    text = start + len(interpreter) + 1
    dynamic = text + len(table)
    entries = [*needed, (5, 0x400000 + text), (10, len(table)), (0, 0)]
    size = dynamic + 16 * len(entries)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01", 3, machine, 1, 0x400000, 64, 0, 0, 64, 56, 3, 0, 0, 0,
    )  # fmt: skip
    programs = b"".join(
        struct.pack("<IIQQQQQQ", type_, 4, offset, 0x400000 + offset, 0, length, length, 1)
        for type_, offset, length in (
            (1, 0, size),
            (3, start, len(interpreter) + 1),
            (2, dynamic, 16 * len(entries)),
        )
    )
    path = tmp_path / "program"
    path.write_bytes(
        header + programs + interpreter + b"\0" + table
        + b"".join(struct.pack("<qQ", *entry) for entry in entries)
    )  # fmt: skip
    return path


GLIBC = b"/lib64/ld-linux-x86-64.so.2"


@pytest.mark.parametrize(
    ("interpreter", "strings", "why"),
    [
        (GLIBC, [b"libc.so.6", b"GLIBC_2.2.5", b"GLIBC_2.41"], ""),
        (GLIBC, [b"libc.so.6", b"GLIBC_2.42"], "linked with glibc 2.42, but the VMs have 2.41"),
        (GLIBC, [b"libc.so.6", b"libseccomp.so.2"], "linked with libseccomp.so.2"),
        (b"/lib/ld-musl-x86_64.so.1", [b"libc.so"], "linked with /lib/ld-musl-x86_64.so.1"),
    ],
)
def test_dynamic_programs_are_judged_by_what_they_are_linked_with(
    tmp_path: Path, interpreter: bytes, strings: list[bytes], why: str
) -> None:
    found = unfit(elf(tmp_path, interpreter, *strings))
    assert found.startswith(why)
    assert bool(found) is bool(why)


def test_a_program_of_this_machine_reads_as_it_is() -> None:
    # The interpreter that runs this test: dynamic on any distribution's Python, static on some.
    shell = Path(os.path.realpath("/bin/sh"))
    said = subprocess.run(["file", "-b", shell], capture_output=True, text=True, check=False)
    if said.returncode:
        pytest.skip("no program `file` to compare with")
    assert ("interpreter" in said.stdout) is bool(read_elf(shell).interpreter)
