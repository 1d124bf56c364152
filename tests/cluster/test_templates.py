"""Nodes that are copies of one booted VM: alike in nothing that counts, and what happens when the
template is none.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from xk8s.util.intact import seal
from xk8s.util.sparse import content_sum

from tests.conftest import Xk8s

pytestmark = pytest.mark.cluster

NAME = ("--name", "tmpl")
UP = (
    "up", "debian", "--nodes", "4", "--routers", "0", "--cold", "-s", "cluster.snapshot=false",
    "--memory", "control-plane=384", "--memory", "worker=384", "--cpus", "control-plane=1",
)  # fmt: skip
NODES = ("vm-001", "vm-002", "vm-003", "vm-004")

IDENTITY = """\
cat /etc/machine-id
cat /etc/hostname
cat /proc/sys/kernel/random/boot_id
cat /sys/class/dmi/id/product_uuid
head -c 16 /dev/urandom | od -An -tx1
cat /sys/class/net/eth0/address
cat /sys/class/net/eth1/address
ssh-keygen -q -t ed25519 -N '' -f /run/key && cut -d ' ' -f 2 /run/key.pub || openssl rand -hex 32
"""
"""A line each, of what no two nodes may share."""


@pytest.fixture
def cache(tmp_path: Path, xk8s: Xk8s) -> Iterator[Path]:
    """A cache with the user's artifacts and layers, but templates of its own."""
    own = Path(os.environ.get("XK8S_CACHE") or Path.home() / ".cache" / "xk8s")
    mine = tmp_path / "cache"
    mine.mkdir()
    xk8s("artifacts", "debian", "--fetch", timeout=1800)
    for path in own.iterdir():
        if path.name != "templates":
            (mine / path.name).symlink_to(path)
    try:
        yield mine
    finally:
        xk8s(*NAME, "down", timeout=120)
        assert xk8s.left() == []


def up(xk8s: Xk8s, cache: Path, *more: str) -> str:
    """What `xk8s up` says on its way."""
    env = {"XK8S_CACHE": str(cache)}
    words = [*NAME, *UP, *more]
    process = xk8s.start(*words, env=env)
    _, said = process.communicate(timeout=1800)
    assert process.returncode == 0, said
    return str(said)


def templates(cache: Path) -> list[Path]:
    return sorted((cache / "templates").glob("[!.]*"))


def in_guest(xk8s: Xk8s, node: str, script: str) -> list[str]:
    return xk8s(*NAME, "exec", node, "--", "sh", "-c", script).splitlines()


def is_copy(xk8s: Xk8s, node: str) -> bool:
    return "xk8s.template" in in_guest(xk8s, node, "cat /proc/cmdline")[0].split()


def test_copies_share_memory_and_nothing_else(xk8s: Xk8s, cache: Path) -> None:
    said = up(xk8s, cache)
    assert "template: done" in said
    (one,) = templates(cache)  # of the same size, all four are copies of one
    assert all(is_copy(xk8s, node) for node in NODES)
    seen = [in_guest(xk8s, node, IDENTITY) for node in NODES]
    assert len(seen[0]) == 8, seen[0]
    for what in zip(*seen, strict=True):
        assert len(set(what)) == len(NODES), what
    assert not in_guest(xk8s, "vm-003", "systemctl --failed --no-legend")
    # The memory is there once: each has its own of what it wrote, and the file of the rest.
    for pid in (node["pid"] for node in xk8s.json(*NAME, "status", "--json")["nodes"]):
        maps = Path(f"/proc/{pid}/smaps").read_text()
        (mine,) = re.findall(rf"{re.escape(str(one))}/ram\n.*?^Rss: +(\d+) kB", maps, re.M | re.S)
        (shared,) = re.findall(
            rf"{re.escape(str(one))}/ram\n.*?^Shared_Clean: +(\d+) kB", maps, re.M | re.S
        )
        assert int(mine) > int(shared) > 1000

    xk8s(*NAME, "down")
    said = up(xk8s, cache)
    assert "template: done" not in said, "the second time it is there"


def test_the_clock_goes_on_from_now(xk8s: Xk8s, cache: Path) -> None:
    up(xk8s, cache, "--nodes", "1")
    xk8s(*NAME, "down")
    made = (templates(cache)[0] / "template.json").stat().st_ctime
    time.sleep(max(0.0, made + 20 - time.time()))  # the template's clock stands since
    up(xk8s, cache, "--nodes", "1")
    guest = float(in_guest(xk8s, "vm-001", "date +%s.%N")[0])
    assert abs(time.time() - guest) < 5


def test_a_damaged_one_is_made_again(xk8s: Xk8s, cache: Path) -> None:
    up(xk8s, cache, "--nodes", "1")
    xk8s(*NAME, "down")
    (one,) = templates(cache)
    ram = (one / "ram").open("r+b")
    with ram:
        ram.seek(1 << 20)
        byte = ram.read(1)
        ram.seek(1 << 20)
        ram.write(bytes([byte[0] ^ 1]))
    assert "template: done" in up(xk8s, cache, "--nodes", "1")
    assert is_copy(xk8s, "vm-001")


def test_one_that_qemu_does_not_take_is_dropped(xk8s: Xk8s, cache: Path) -> None:
    up(xk8s, cache, "--nodes", "1")
    xk8s(*NAME, "down")
    (one,) = templates(cache)
    (one / "state").write_bytes(b"no state")
    files = [one / name for name in ("ram", "state")]
    sums = {path.name: f"{content_sum(path)} {path.stat().st_size}" for path in files}
    (one / "template.json").write_text(seal(sums))
    said = up(xk8s, cache, "--nodes", "1")
    assert "boots by itself, without a template" in said
    assert not is_copy(xk8s, "vm-001")
    assert templates(cache) == []


def test_without(xk8s: Xk8s, cache: Path) -> None:
    said = up(xk8s, cache, "--nodes", "1", "-s", "cluster.template=false")
    assert "template" not in said
    assert templates(cache) == []
    assert not is_copy(xk8s, "vm-001")
