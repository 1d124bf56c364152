"""A local directory on top of a cluster of real VMs: the plain base system, one node."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Xk8s

pytestmark = pytest.mark.cluster

NAME = ("--name", "work")
SMALL = ("--nodes", "1", "--routers", "0", "--memory", "control-plane=384")

FILES = {
    "etc/motd": "of the base's image\n",
    "etc/sysctl.d/50-xk8s.conf": "kernel.sysrq = 17\n",
    "etc/hosts": "127.0.0.1 localhost mine\n",
    "usr/bin/tool": "#!/bin/sh\necho from a tool\n",
    # A unit of a lower layer, changed by a drop-in.
    "etc/systemd/system/xk8s-console.service.d/10-mine.conf": "[Unit]\nDescription=mine\n",
}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("work")
    for name, text in FILES.items():
        path = directory / "default" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (directory / "default/usr/bin/tool").chmod(0o700)
    (directory / "default/etc/localtime").symlink_to("/usr/share/zoneinfo/Etc/UTC")
    return directory


def images(xk8s: Xk8s, *words: str) -> dict[str, Any]:
    """The layers of overlays, by name, with the identity of their images."""
    found = {}
    for layer in xk8s.json("layers", *words, "--json"):
        status = Path(layer["path"]).stat() if layer["path"] else None
        found[layer["name"]] = layer["digest"], status and (status.st_ino, status.st_mtime_ns)
    return found


def run(xk8s: Xk8s, *argv: str) -> str:
    return xk8s(*NAME, "exec", "vm-001", "--", *argv)


@pytest.fixture(scope="module")
def told(xk8s: Xk8s, work: Path) -> Iterator[str]:
    """The cluster with the directory; what `up` told."""
    xk8s("artifacts", "debian", "--fetch", timeout=1800)
    up = xk8s.start(*NAME, "up", "debian", "./work", *SMALL, cwd=work.parent)
    try:
        _, told = up.communicate(timeout=900)
    finally:
        up.kill()
        up.wait()
    assert up.returncode == 0, told
    yield told
    xk8s(*NAME, "down")


@pytest.fixture(scope="module", autouse=True)
def link(work: Path) -> Iterator[Path]:
    path = work.parent / "work"
    path.symlink_to(work.name)
    yield path
    path.unlink()


def test_nothing_else_is_built(xk8s: Xk8s, work: Path) -> None:
    xk8s(*NAME, "up", "debian", *SMALL, "--no-check", timeout=1800)
    xk8s(*NAME, "down")
    before = images(xk8s, "debian")
    assert all(identity for _, identity in before.values()), before
    xk8s(*NAME, "up", "debian", str(work), *SMALL, "--no-check", timeout=900)
    xk8s(*NAME, "down")
    after = images(xk8s, "debian", str(work))
    own = f"local-{work.name}"
    assert after.pop(own)[1] is not None
    assert after == before


def test_up_tells_what_is_replaced_and_whose_it_was(told: str, work: Path) -> None:
    for line in (
        "replaces /etc/motd of debian (layer debian-base)",
        "replaces /etc/sysctl.d/50-xk8s.conf of debian (layer debian-config)",
        "replaces /etc/hosts of debian (own file of vm-001)",
        "adds /usr/bin/tool",
    ):
        assert f"{work} {line}" in told


def test_files_of_layers_and_of_nodes_are_replaced(xk8s: Xk8s, told: str) -> None:
    for name in ("etc/motd", "etc/hosts", "etc/sysctl.d/50-xk8s.conf"):
        assert run(xk8s, "cat", f"/{name}") == FILES[name]
    assert run(xk8s, "cat", "/proc/sys/kernel/sysrq") == "17\n"
    assert run(xk8s, "tool") == "from a tool\n"
    assert run(xk8s, "stat", "-c", "%U %a", "/usr/bin/tool") == "root 755\n"
    assert run(xk8s, "readlink", "/etc/localtime") == "/usr/share/zoneinfo/Etc/UTC\n"
    # What is beside the replaced files is there as before.
    assert run(xk8s, "cat", "/etc/hostname") == "vm-001\n"


def test_a_unit_is_changed_by_a_drop_in(xk8s: Xk8s, told: str) -> None:
    show = ("systemctl", "show", "-P", "Description", "xk8s-console.service")
    assert run(xk8s, *show) == "mine\n"


def test_prune_would_not_touch_it(xk8s: Xk8s, told: str) -> None:
    found = xk8s.json("layers", "prune", "--dry-run", "--json")
    # Of one name there may be several: other clusters have snapshots here.
    needed = {layer["name"] for layer in found["needed"] if "cluster work" in layer["needed_by"]}
    assert {"debian-base", "debian-modules", "debian-config"} <= needed
    digests = {layer["digest"] for layer in found["removed"]}
    assert not digests & {digest for digest, _ in images(xk8s, "debian").values()}


def test_the_cluster_outlives_its_directory(xk8s: Xk8s, told: str, work: Path) -> None:
    (work / "default/etc/motd").write_text("edited\n")
    shutil.move(work / "default/usr", work / "usr")
    shutil.rmtree(work / "default/etc/sysctl.d")
    assert str(work) in xk8s.json(*NAME, "status", "--json")["overlays"]
    xk8s(*NAME, "check")
    xk8s(*NAME, "snapshot", "save", "mine")
    assert "mine" in [snapshot["label"] for snapshot in xk8s.json("snapshot", "list", "--json")]
    shutil.rmtree(work)
    run(xk8s, "touch", "/root/after")
    xk8s(*NAME, "down")
    # All of it is in the snapshot.
    xk8s(*NAME, "snapshot", "restore", "mine", timeout=900)
    assert run(xk8s, "cat", "/etc/motd") == FILES["etc/motd"]
    assert run(xk8s, "tool") == "from a tool\n"
    xk8s(*NAME, "exec", "vm-001", "--", "test", "-e", "/root/after", code=1)
    found = xk8s.json("layers", "prune", "--dry-run", "--json")
    # Its name is that of the first directory with these files: the cache may outlive this run.
    own = [layer for layer in found["needed"] if layer["name"].startswith("local-")]
    assert any("snapshot work/mine" in layer["needed_by"] for layer in own), found
    xk8s(*NAME, "snapshot", "remove", "mine")
