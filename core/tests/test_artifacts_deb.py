"""Debian packages: the mirror is the host's, its apt state is not touched."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from xk8s import apt
from xk8s.apt import pick_mirror
from xk8s.build.artifacts.store import Store
from xk8s.errors import ArtifactError
from xk8s.progress import Silent
from xk8s.sources import Artifact, DebPackage

needs_dpkg = pytest.mark.skipif(
    shutil.which("dpkg-deb") is None, reason="dpkg-deb makes the packages of this test"
)

SECURITY = "http://m.example/debian-security/\tbookworm-security\tmain\tDebian"
UPDATES = "http://m.example/debian/\tbookworm-updates\tmain\tDebian"
MAIN = "http://m.example/debian/\tbookworm\tmain\tDebian"
OTHER = "http://other.example/apt/\tstable\tmain\tOther"
EARLY = "http://m.example/debian/\tbookworm\tmain\t"


@pytest.mark.parametrize(
    ("targets", "codename", "mirror"),
    [
        ([OTHER, SECURITY, UPDATES, MAIN], "bookworm", "http://m.example/debian/"),
        ([EARLY, OTHER], "bookworm", "http://m.example/debian/"),
        ([SECURITY, OTHER], "bookworm", None),
        ([EARLY], "trixie", None),
        (["http://u.example/ubuntu/\tnoble\tmain\tUbuntu"], None, None),
        (["http://u.example/x/\t\tmain\t"], None, None),
        (["", "nonsense"], None, None),
    ],
)
def test_the_mirror_is_the_main_archive_of_the_host(targets, codename, mirror) -> None:
    assert pick_mirror("\n".join(targets), codename=codename) == mirror


def test_the_mirror_can_be_named(monkeypatch) -> None:
    monkeypatch.setenv("XK8S_DEBIAN_MIRROR", "http://mine.example/debian")
    apt.configured_mirror.cache_clear()
    assert apt.require_mirror() == "http://mine.example/debian"
    apt.configured_mirror.cache_clear()


def package(root: Path, name: str, files: dict[str, str]) -> None:
    """Make ``name``_1:2.0-1 with these files; "-> target" makes a link."""
    tree = root / f"tree-{name}"
    (tree / "DEBIAN").mkdir(parents=True)
    control = f"Package: {name}\nVersion: 1:2.0-1\nArchitecture: amd64\n"
    control += "Maintainer: x <x@x>\nDescription: x\n"
    (tree / "DEBIAN" / "control").write_text(control)
    for path, text in files.items():
        target = tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("-> "):
            target.symlink_to(text[3:])
        else:
            target.write_text(text)
            target.chmod(0o755)
    out = root / f"{name}_1%3a2.0-1_amd64.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, out], check=True,
                   capture_output=True)  # fmt: skip


APT = """#!/bin/sh
# An apt-get that has the packages of this test: says what it was asked, downloads by copying.
echo "$@" >> {root}/asked
while [ "$1" != download ] && [ "$1" != update ]; do
    [ "$1" = -c ] && cat "$2" > {root}/conf
    shift
done
[ "$1" = update ] && exit 0
[ -e {root}/stale ] && {{ rm {root}/stale; echo "E: 404 Not Found" >&2; exit 100; }}
shift
for name; do cp {root}/"$name"_*.deb . || exit 100; done
"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "host"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "apt-get").write_text(APT.format(root=root))
    (root / "bin" / "apt-get").chmod(0o755)
    (root / "keyring").touch()
    monkeypatch.setattr(apt, "KEYRING", root / "keyring")
    monkeypatch.setattr(apt, "host_mirror", lambda: "http://mirror.example/debian")
    monkeypatch.setenv("PATH", f"{root / 'bin'}:{os.environ['PATH']}")
    return root


def get(cache: Path, **members: tuple[str, str]):
    sources = (DebPackage(members=members),)
    artifact = Artifact(name="x", version="1", members=tuple(members), sources=sources)
    return Store(cache).get(artifact, Silent())


@needs_dpkg
def test_members_are_taken_out_of_packages(tmp_path: Path, host: Path) -> None:
    package(host, "one", {"usr/bin/tool": "tool", "usr/share/d/a": "a", "usr/share/d/l": "-> /etc"})
    package(host, "two", {"usr/sbin/real": "real", "usr/sbin/alias": "-> /usr/sbin/real"})
    resolved = get(
        tmp_path / "cache",
        tool=("one", "/usr/bin/tool"),
        share=("one", "usr/share/d"),
        alias=("two", "./usr/sbin/alias"),
        real=("two", "/usr/sbin/real"),
    )
    tree = resolved.path
    assert (tree / "tool").read_text() == "tool"
    assert (tree / "tool").stat().st_mode & 0o777 == 0o755
    assert (tree / "share" / "a").read_text() == "a"
    assert os.readlink(tree / "share" / "l") == "/etc"  # noqa: PTH115
    assert (tree / "alias").read_text() == (tree / "real").read_text() == "real"
    details = {origin.member: origin.detail for origin in resolved.provenance}
    assert details["tool"] == "one 1:2.0-1 (trixie)"
    # Of the host only mirror and keys; all directories are the cache's.
    sources = (tmp_path / "cache" / "apt" / "trixie" / "sources.list").read_text()
    assert sources.startswith(f"deb [signed-by={host}/keyring arch=amd64] http://mirror.example")
    conf = (host / "conf").read_text()
    for name in ("Dir::State", "Dir::Cache", "Dir::Etc::sourcelist", "Dir::Etc::sourceparts"):
        assert re.search(rf'^{name} "{tmp_path}/cache/', conf, re.MULTILINE)
    assert "Dir::Etc::parts" not in conf


@needs_dpkg
def test_lists_are_fetched_once_a_day_or_when_they_are_stale(tmp_path: Path, host: Path) -> None:
    package(host, "one", {"usr/bin/a": "a", "usr/bin/b": "b"})

    def asked() -> list[str]:
        lines = (host / "asked").read_text().splitlines()
        (host / "asked").unlink()
        return ["update" if "update" in line.split() else "download" for line in lines]

    cache = tmp_path / "cache"
    get(cache, a=("one", "/usr/bin/a"))
    assert asked() == ["update", "download"]
    get(cache, b=("one", "/usr/bin/b"))
    assert asked() == ["download"]
    stamp = cache / "apt" / "trixie" / "updated"
    os.utime(stamp, (1, 1))
    get(cache, c=("one", "/usr/bin/b"))
    assert asked() == ["update", "download"]
    (host / "stale").touch()  # the mirror has a newer version, the lists name the old one
    get(cache, d=("one", "/usr/bin/b"))
    assert asked() == ["download", "update", "download"]


@needs_dpkg
def test_what_is_not_there_is_a_reason(tmp_path: Path, host: Path, monkeypatch) -> None:
    package(host, "one", {"usr/bin/a": "a", "usr/bin/loop": "-> loop", "up": "-> ../../../etc"})
    with pytest.raises(ArtifactError, match="has a link out of it"):
        get(tmp_path, a=("one", "/usr/bin/a"))
    package(host / "bin", "two", {"usr/bin/a": "a", "usr/bin/loop": "-> loop"})
    for file in (host / "bin").glob("*.deb"):
        file.rename(host / file.name)
    for path in ("/usr/bin/absent", "/usr/bin/loop", "/usr/bin/a/b"):
        with pytest.raises(ArtifactError, match=f"two 1:2.0-1 has no {path}"):
            get(tmp_path, a=("two", path))
    with pytest.raises(ArtifactError, match="apt-get download"):
        get(tmp_path, a=("absent", "/a"))
    monkeypatch.setattr(apt, "host_mirror", lambda: None)
    with pytest.raises(ArtifactError, match="no Debian mirror"):
        get(tmp_path, a=("two", "/usr/bin/a"))


def test_a_host_without_apt_is_a_reason(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ArtifactError, match="apt-get is not installed"):
        get(tmp_path, a=("one", "/a"))
