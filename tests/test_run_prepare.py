"""./run and tools/prepare.py, without touching this machine's packages."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare", ROOT / "tools" / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


prepare = _load()

# --- a clone whose set-up is a script that counts ----------------------------------------

FAKE_PREPARE = """
import argparse, os, pathlib, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("--venv", type=pathlib.Path)
parser.add_argument("--packages", action="store_true")
options = parser.parse_args()
root = pathlib.Path(__file__).parent.parent
with (root / "calls").open("a") as file:
    file.write("packages\\n" if options.packages else "prepare\\n")
if (root / "broken").exists():
    sys.exit(5)
if options.venv:
    time.sleep(0.3)
    (options.venv / "bin").mkdir(parents=True, exist_ok=True)
    python = options.venv / "bin" / "python"
    python.unlink(missing_ok=True)
    python.symlink_to(sys.executable)
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    root = tmp_path / "a clone"
    for directory in ("tools", "core/src/xk8s/util", "plugins/one"):
        (root / directory).mkdir(parents=True)
    shutil.copy2(ROOT / "run", root / "run")
    (root / "tools" / "prepare.py").write_text(FAKE_PREPARE)
    for name in (
        "requirements.lock", "core/pyproject.toml", "core/src/xk8s/util/host_programs.py",
        "plugins/one/pyproject.toml",
    ):  # fmt: skip
        (root / name).write_text(name)
    return root


def run(clone: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "XK8S_VENV"}
    return subprocess.run(
        [str(clone / "run"), *words],
        capture_output=True, text=True, check=False, env=environment, cwd="/", timeout=30,
    )  # fmt: skip


def calls(clone: Path) -> int:
    path = clone / "calls"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_sets_up_once_and_runs_what_follows_where_the_user_is(clone: Path) -> None:
    for _ in range(3):
        done = run(clone, "sh", "-c", 'pwd; command -v python; echo "$@"; exit 3', "-", "a  b", "c")
        assert done.returncode == 3
        assert done.stdout == f"/\n{clone}/.venv/bin/python\na  b c\n"
    assert calls(clone) == 1


def test_sets_up_again_what_was_not_finished(clone: Path) -> None:
    """A stamp of before, and a set-up since that a power loss cut off."""
    assert run(clone, "true").returncode == 0
    (clone / ".venv.unfinished").write_text("another start of the machine")
    assert run(clone, "true").returncode == 0
    assert calls(clone) == 2


def test_an_environment_that_a_restart_cut_off_is_made_anew(tmp_path: Path) -> None:
    """Installers count a package as installed whose files the power loss left empty."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    mark = prepare.begin(venv)
    assert mark.read_text() == Path("/proc/sys/kernel/random/boot_id").read_text()
    assert prepare.begin(venv) == mark
    assert venv.exists(), "in the same start all that was written is there"
    for text in ("another start", ""):
        venv.mkdir(exist_ok=True)
        mark.write_text(text)
        prepare.begin(venv)
        assert not venv.exists()


def test_the_environment_is_flushed_before_it_counts_as_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    for name in ("python", "uv"):
        (venv / "bin" / name).symlink_to("/bin/true")
    venv.with_name("venv.log").touch()
    steps: list[list[str]] = []

    def step(_what: str, command: list[str], log: Path) -> None:
        assert venv.with_name("venv.unfinished").exists()
        log.touch()
        steps.append(command)

    monkeypatch.setattr(prepare, "step", step)
    prepare.ensure_python(venv, sys.executable)
    assert steps[-1] == ["sync", "-f", str(venv)]
    assert not venv.with_name("venv.unfinished").exists()


def test_bytecode_is_kept_but_not_among_sources_when_it_must_not_be_there(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import sys; print(sys.dont_write_bytecode, sys.pycache_prefix)"
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    assert run(clone, "python", "-c", code).stdout == f"False {clone}/.venv/pycache\n"
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE")
    assert run(clone, "python", "-c", code).stdout == "False None\n"
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", "/elsewhere")
    assert run(clone, "python", "-c", code).stdout == "False /elsewhere\n"


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "requirements.lock").write_text("new"),
        lambda root: (root / "plugins/one/pyproject.toml").write_text("new"),
        lambda root: (root / "tools/prepare.py").write_text(FAKE_PREPARE + "\n"),
        lambda root: (root / "core/src/xk8s/util/host_programs.py").write_text("new"),
        lambda root: (
            (root / "plugins/two").mkdir()
            or (root / "plugins/two/pyproject.toml").write_text("two")
        ),
        lambda root: shutil.rmtree(root / ".venv"),
        lambda root: root.rename(root.parent / "moved"),
    ],
    ids=["lock", "pyproject", "prepare", "programs", "plugin", "gone", "moved"],
)
def test_sets_up_again_when_something_changed(
    clone: Path, change: Callable[[Path], object]
) -> None:
    assert run(clone, "true").returncode == 0
    change(clone)
    clone = clone if clone.exists() else clone.parent / "moved"
    assert run(clone, "true").returncode == 0
    assert calls(clone) == 2


def test_a_failed_set_up_is_tried_again(clone: Path) -> None:
    (clone / "broken").touch()
    done = run(clone, "echo", "no")
    assert (done.returncode, done.stdout) == (5, "")
    (clone / "broken").unlink()
    assert run(clone, "echo", "yes").stdout == "yes\n"


def test_two_at_once_set_up_once(clone: Path) -> None:
    both = [
        subprocess.Popen([str(clone / "run"), "true"], stderr=subprocess.PIPE) for _ in range(3)
    ]
    assert [process.wait(30) for process in both] == [0, 0, 0]
    for process in both:
        assert process.stderr is not None
        process.stderr.close()
    assert calls(clone) == 1


def test_a_lasting_command_does_not_hold_the_lock(clone: Path) -> None:
    with subprocess.Popen([str(clone / "run"), "sleep", "30"]) as first:
        try:
            while not (clone / ".venv" / "xk8s-stamp").exists():
                time.sleep(0.02)
            (clone / "requirements.lock").write_text("new")
            assert run(clone, "true").returncode == 0
            assert calls(clone) == 2
        finally:
            first.terminate()


def test_no_command_sets_up_and_says_what_next(clone: Path) -> None:
    done = run(clone)
    assert done.returncode == 0
    assert "xk8s up kubernetes coredns externalip" in done.stderr


def test_a_link_to_it_works_from_anywhere_and_nothing_appears_beside_the_link(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XK8S_VENV", raising=False)
    programs = tmp_path / "my programs"
    programs.mkdir()
    (programs / "first").symlink_to(clone / "run")
    (programs / "again").symlink_to("first")
    for words in ([str(programs / "again")], ["sh", "my programs/first"]):
        done = subprocess.run(
            [*words, "sh", "-c", "command -v python; pwd"],
            capture_output=True, text=True, check=False, cwd=tmp_path, timeout=30,
        )  # fmt: skip
        assert done.stdout == f"{clone}/.venv/bin/python\n{tmp_path}\n", done.stderr
    assert calls(clone) == 1
    assert sorted(path.name for path in programs.iterdir()) == ["again", "first"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a clone", "my programs"]


def test_a_link_with_the_name_of_the_command_is_the_command(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XK8S_VENV", raising=False)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "xk8s").symlink_to(clone / "run")
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["xk8s", *words], capture_output=True, text=True, check=False, cwd="/",
            env=environment, timeout=30,
        )  # fmt: skip

    # An environment without the command must not find the link, which would find the link …
    assert command("plan").returncode == 127
    fake = clone / ".venv" / "bin" / "xk8s"
    fake.write_text('#!/bin/sh\necho "the command: $*"\n')
    fake.chmod(0o755)
    assert command("plan", "a b").stdout == "the command: plan a b\n"
    assert command().stdout == "the command: \n"
    assert command("--packages").stdout == "the command: --packages\n"


def test_packages_alone_leave_the_clone_alone(clone: Path) -> None:
    assert run(clone, "--packages").returncode == 0
    assert not (clone / ".venv").exists()


def test_fast_path_is_fast(clone: Path) -> None:
    run(clone, "true")

    def seconds() -> float:
        start = time.perf_counter()
        run(clone, "true")
        return time.perf_counter() - start

    # Mostly the start of six small programs; the least of some, as others use the machine too.
    assert min(seconds() for _ in range(8)) < 0.05


# --- apt --------------------------------------------------------------------------------

DEB822 = """\
# the mirror, as installed
Types: deb
# a comment inside
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""


def etc(tmp_path: Path, **files: str) -> Path:
    directory = tmp_path / "apt"
    (directory / "sources.list.d").mkdir(parents=True)
    for name, text in files.items():
        path = name.replace("__", ".")
        parent = directory if path == "sources.list" else directory / "sources.list.d"
        (parent / path).write_text(text)
    return directory


def test_backports_from_deb822(tmp_path: Path) -> None:
    files = prepare.debian_sources(
        etc(
            tmp_path,
            debian__sources=DEB822,
            other__sources="Types: deb\nURIs: http://broken.example\nSuites: stable\n",
        ),
        "bookworm",
    )
    assert set(files) == {"debian.sources", "xk8s-backports.sources"}
    assert files["xk8s-backports.sources"] == (
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm-backports\n"
        "Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )
    assert "bookworm-security" in files["debian.sources"]


def test_backports_from_one_line_sources(tmp_path: Path) -> None:
    text = (
        "# deb http://old.example/debian bookworm main\n"
        "deb [signed-by=/k.gpg arch=amd64] http://mirror.example/debian bookworm main contrib\n"
        "deb-src http://mirror.example/debian bookworm main\n"
        "deb http://mirror.example/debian-security bookworm-security main\n"
    )
    files = prepare.debian_sources(etc(tmp_path, sources__list=text), "bookworm")
    assert files == {
        "xk8s-backports.list": "deb [signed-by=/k.gpg arch=amd64] http://mirror.example/debian "
        "bookworm-backports main contrib\n"
    }
    files = prepare.debian_sources(etc(tmp_path / "2", debian__list=text), "bookworm")
    assert set(files) == {"debian.list", "xk8s-backports.list"}


def test_disabled_sources_do_not_count(tmp_path: Path) -> None:
    text = DEB822.replace("Types: deb\n", "Types: deb\nEnabled: no\n")
    assert prepare.debian_sources(etc(tmp_path, debian__sources=text), "bookworm") == {}


def test_only_what_is_missing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = prepare.host_programs
    monkeypatch.setattr(programs, "is_there", lambda program: program.name != "mkfs.erofs")
    monkeypatch.setattr(prepare, "has_venv", lambda _: True)
    monkeypatch.setattr(prepare, "qemu_major", lambda: 10)
    assert prepare.missing() == ["erofs-utils"]
    monkeypatch.setattr(programs, "is_there", lambda _: True)
    monkeypatch.setattr(prepare, "has_venv", lambda _: False)
    assert prepare.missing() == ["python3-venv"]


@pytest.mark.parametrize(
    ("major", "kvm", "wanted"), [(7, False, True), (7, True, False), (10, False, False)]
)
def test_an_old_qemu_will_do_with_kvm_only(
    monkeypatch: pytest.MonkeyPatch, major: int, kvm: bool, wanted: bool
) -> None:
    monkeypatch.setattr(prepare.host_programs, "is_there", lambda _: True)
    monkeypatch.setattr(prepare, "has_venv", lambda _: True)
    monkeypatch.setattr(prepare, "qemu_major", lambda: major)
    monkeypatch.setattr(prepare, "kvm_usable", lambda: kvm)
    assert (prepare.QEMU in prepare.missing()) is wanted


def test_without_root_one_line_is_told_and_nothing_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(prepare, "missing", lambda _: ["cpio", "zstd"])
    monkeypatch.setattr(prepare, "codename", lambda: "bookworm")
    monkeypatch.setattr(prepare, "as_root", lambda: None)
    monkeypatch.setenv("XK8S_RUN_APT", "1")
    assert prepare.main(["--venv", str(tmp_path / "venv")]) == 5
    err = capsys.readouterr().err
    assert f"\n      {ROOT}/run --packages\n" in err
    assert "cpio zstd" in err
    assert not (tmp_path / "venv").exists()


def test_without_root_what_clusters_do_not_need_stops_nobody(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prepare, "missing", lambda _: ["wireshark-common", "tcpdump"])
    monkeypatch.setattr(prepare, "codename", lambda: "bookworm")
    monkeypatch.setattr(prepare, "as_root", lambda: None)
    monkeypatch.setenv("XK8S_RUN_APT", "1")
    assert prepare.main(["--packages"]) == 0
    assert "apt-get install -y --no-install-recommends wireshark-common tcpdump" in (
        capsys.readouterr().err
    )


def test_elsewhere_the_line_of_that_system_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = prepare.host_programs
    monkeypatch.setattr(programs, "is_there", lambda program: program.name != "ip")
    monkeypatch.setattr(programs, "package_manager", lambda: "dnf")
    monkeypatch.setattr(prepare, "codename", lambda: "")
    monkeypatch.setenv("XK8S_RUN_APT", "1")
    assert prepare.main(["--packages"]) == 0
    assert "dnf install -y --setopt=install_weak_deps=False iproute\n" in capsys.readouterr().err


FAKE_APT = """#!/bin/sh
echo "$@" >>"$APT_CALLS"
case "$*" in
*policy*bookworm-backports*|*bookworm-backports*policy*) echo "  Candidate: 1:10.0.2+ds" ;;
*policy*) echo "  Candidate: 1:7.2+dfsg-7" ;;
*update*) exit "${APT_UPDATE:-0}" ;;
*install*${APT_REFUSES:-}*) echo "E: Unable to locate package"; exit "${APT_INSTALL:-0}" ;;
esac
"""


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("apt-get", "apt-cache"):
        (programs / name).write_text(FAKE_APT)
        (programs / name).chmod(0o755)
    log = tmp_path / "calls"
    log.touch()
    monkeypatch.setenv("APT_CALLS", str(log))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(prepare, "codename", lambda: "bookworm")
    return log


def test_qemu_comes_from_backports_and_the_rest_does_not(apt: Path) -> None:
    prepare.install(["cpio", prepare.QEMU], [])
    installs = [line for line in apt.read_text().splitlines() if " install " in line]
    assert installs[0].endswith(" cpio")
    assert installs[1].endswith(" -t bookworm-backports qemu-system-x86")
    assert all("APT::Get::List-Cleanup=0" in line for line in installs)


def test_a_failing_apt_shows_its_log(
    apt: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APT_UPDATE", "100")
    monkeypatch.setenv("APT_INSTALL", "100")
    with pytest.raises(prepare.Failed, match=r"could not install cpio(.|\n)*Unable to locate"):
        prepare.install(["cpio"], [])
    assert "apt-get update failed" in capsys.readouterr().err


def test_a_package_that_clusters_do_not_need_may_fail(
    apt: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APT_INSTALL", "100")
    monkeypatch.setenv("APT_REFUSES", "tcpdump")
    prepare.install(["cpio", "tcpdump"], [])
    err = capsys.readouterr().err
    assert "could not install tcpdump" in err
    assert "Unable to locate package" in err
    installs = [line for line in apt.read_text().splitlines() if " install " in line]
    assert [line.split()[-1] for line in installs] == ["cpio", "tcpdump"]


def test_the_lock_gives_uv_alone() -> None:
    text = prepare.pinned((ROOT / "requirements.lock").read_text(), "uv")
    assert text.startswith("uv==")
    assert "--hash=sha256:" in text
    assert text.count("==") == 1
    with pytest.raises(prepare.Failed, match="no-such-thing"):
        prepare.pinned(text, "no-such-thing")


def test_needs_nothing_but_the_standard_library() -> None:
    code = "import runpy, sys; runpy.run_path(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(ROOT / "tools" / "prepare.py")],
        check=True,
        capture_output=True,
    )
