"""The table of programs and packages, and the line that brings what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from xk8s.util import host_programs
from xk8s.util.host_programs import PROGRAMS, install_line, package_manager, packages

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n'
UBUNTU = 'NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\n'
MINT = 'ID="linuxmint"\nID_LIKE="ubuntu debian"\n'
FEDORA = 'NAME="Fedora Linux"\nID=fedora\nPLATFORM_ID="platform:f42"\n'
ALMA = 'ID="almalinux"\nID_LIKE="rhel centos fedora"\n'
ARCH = "NAME=Arch\nID=arch\n"


@pytest.mark.parametrize(
    ("text", "manager"),
    [(DEBIAN, "apt"), (UBUNTU, "apt"), (MINT, "apt"), (FEDORA, "dnf"), (ALMA, "dnf"), (ARCH, "")],
    ids=["debian", "ubuntu", "mint", "fedora", "alma", "arch"],
)
def test_which_package_manager(text: str, manager: str) -> None:
    assert package_manager(text) == manager


def test_every_program_has_packages_and_a_purpose_and_stands_once() -> None:
    for program in PROGRAMS:
        assert program.purpose
        for manager in ("apt", "dnf"):
            assert packages([program], manager)[0].strip()
    names = [program.name for program in PROGRAMS]
    assert len(set(names)) == len(names)
    assert {"tcpdump", "dumpcap"} <= set(names)


def test_the_line_for_each_family() -> None:
    assert install_line(("cpio", "zstd"), "apt", root=True) == (
        "apt-get update && env DEBIAN_FRONTEND=noninteractive "
        "apt-get install -y --no-install-recommends cpio zstd"
    )
    assert install_line(("cpio",), "dnf", root=False) == (
        "sudo dnf install -y --setopt=install_weak_deps=False cpio"
    )
    # sudo before each program: it does not cover what follows `&&`.
    assert install_line(("cpio",), "apt", root=False).count("sudo ") == 2


def test_the_install_page_has_the_lines_for_everything() -> None:
    page = (Path(__file__).parents[2] / "docs/howto/install.md").read_text()
    for manager in ("apt", "dnf"):
        line = install_line(packages(PROGRAMS, manager), manager, root=False)
        assert f"\n$ {line}\n" in page


def test_a_hint_brings_all_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_programs, "is_there", lambda program: program.name != "zstd")
    monkeypatch.setattr(host_programs, "package_manager", lambda: "apt")
    assert host_programs.hint("cpio").endswith(" cpio zstd")
    assert host_programs.hint("vim") == "install the package of vim on this machine"
    monkeypatch.setattr(host_programs, "package_manager", lambda: "")
    assert host_programs.hint("cpio") == "install the package of cpio on this machine"


def test_another_place_of_a_file_will_do(tmp_path: Path) -> None:
    here = str(tmp_path / "here")
    program = PROGRAMS[0]._replace(name=str(tmp_path / "there"), instead=here)
    assert host_programs.missing([program]) == (program,)
    Path(here).touch()
    assert host_programs.missing([program]) == ()


def test_sbin_is_searched_where_the_path_of_a_user_lacks_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(host_programs, "_SBIN", str(tmp_path / "sbin"))
    assert host_programs.find("thing") is None
    (tmp_path / "sbin").mkdir()
    (tmp_path / "sbin" / "thing").touch(mode=0o755)
    assert host_programs.find("thing") == str(tmp_path / "sbin" / "thing")


FAKE_APT = """#!/bin/sh
# What it installs are links to this machine's own programs.
case $* in
*indextargets*) exec {real} "$@" ;;
*install*) cd {programs} && ln -s {hidden}/* . ;;
esac
"""


@pytest.fixture
def bare_machine(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine without cpio, zstd and tcpdump: a PATH without them, and an
    apt-get that brings them.
    """
    programs, hidden = tmp_path / "programs", tmp_path / "hidden"
    programs.mkdir()
    hidden.mkdir()
    for directory in ("/usr/bin", "/bin", str(Path(sys.executable).parent)):
        for path in Path(directory).iterdir():
            away = hidden if path.name in ("cpio", "zstd", "tcpdump") else programs
            if not (away / path.name).exists():
                (away / path.name).symlink_to(path)
    real = Path("/usr/bin/apt-get")
    (programs / "apt-get").unlink(missing_ok=True)
    (programs / "apt-get").write_text(FAKE_APT.format(real=real, programs=programs, hidden=hidden))
    (programs / "apt-get").chmod(0o755)
    (hidden / "tcpdump").unlink(missing_ok=True)
    (hidden / "tcpdump").write_text("#!/bin/sh\n")
    (hidden / "tcpdump").chmod(0o755)
    state = {name: str(tmp_path / name) for name in ("XK8S_STATE", "XK8S_CACHE")}
    return {**os.environ, **state, "PATH": str(programs)}


@pytest.mark.skipif(package_manager() != "apt", reason="the line of this machine is not apt's")
def test_doctor_fails_for_what_is_missing_and_not_after_its_line_was_run(
    bare_machine: dict[str, str],
) -> None:
    def doctor(environment: dict[str, str]) -> tuple[set[str], str]:
        done = subprocess.run(
            [sys.executable, "-m", "xk8s.cli", "doctor"],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode in (0, 5), done.stderr
        lines = done.stdout.splitlines()
        failed = {line.split()[1] for line in lines if line.startswith("fail")}
        assert bool(failed) == (done.returncode == 5)
        return failed, done.stdout

    # A machine may lack other things, such as memory at this moment.
    before, _ = doctor({**bare_machine, "PATH": os.environ["PATH"]})
    failed, shown = doctor(bare_machine)
    assert failed - before == {"programs"}
    assert "missing: cpio (the initramfs), tcpdump (" in shown
    (line,) = {line.split("do: ")[1] for line in shown.splitlines() if "apt-get install" in line}
    done = subprocess.run(
        ["sh", "-c", line.replace("sudo ", "")], env=bare_machine, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    failed, shown = doctor(bare_machine)
    assert "programs" not in failed
    assert "tcpdump" not in shown
