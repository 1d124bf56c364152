"""Copies from a guest, which may send what it likes, and what SSH clients are told."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from xk8s.cluster.access import ssh
from xk8s.cluster.access.copy_trees import pack, unpack
from xk8s.cluster.handle import Cluster
from xk8s.cluster.state.record import NodeRecord, Record
from xk8s.errors import HostError
from xk8s.machine.qemu.messages import BEGIN, Decoder, Kind, encode
from xk8s.pki import Keys
from xk8s.util import host_programs
from xk8s.util.bounded_tar import UnsafeArchive


def member(
    name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", data: bytes = b""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, len(data), 0o755
    return info, data


def stream(*members: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    out.seek(0)
    return out


def test_a_tree_comes_back_as_it_was(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "closed").mkdir(parents=True)
    (tree / "closed" / "file").write_bytes(b"a" * 100_000)
    (tree / "closed" / "file").chmod(0o400)
    os.link(tree / "closed" / "file", tree / "same")
    (tree / "link").symlink_to("/etc/hosts")
    (tree / "closed").chmod(0o500)
    out = io.BytesIO()
    pack(tree, "tree", out)
    out.seek(0)
    assert unpack(out, tmp_path, "copy") == 3
    copy = tmp_path / "copy"
    for path in sorted(tree.rglob("*")):
        twin = copy / path.relative_to(tree)
        assert twin.lstat().st_mode == path.lstat().st_mode, path
        if path.is_file() and not path.is_symlink():
            assert twin.read_bytes() == path.read_bytes()
            assert int(twin.stat().st_mtime) == int(path.stat().st_mtime)
    assert (copy / "link").readlink() == Path("/etc/hosts")
    assert (copy / "same").samefile(copy / "closed" / "file")


@pytest.mark.parametrize(
    "members",
    [
        [member("/out/evil", data=b"x")],
        [member("../out/evil", data=b"x")],
        [member("t", tarfile.DIRTYPE), member("t/../../out/evil", data=b"x")],
        [member("t", tarfile.DIRTYPE), member("t/l", tarfile.SYMTYPE, link="../../out"),
         member("t/l/evil", data=b"x")],
        [member("t", tarfile.SYMTYPE, link="../out"), member("t/evil", data=b"x")],
        [member("t", tarfile.DIRTYPE), member("t/h", tarfile.LNKTYPE, link="../out/there")],
        [member("t", tarfile.DIRTYPE), member("t/h", tarfile.LNKTYPE, link="/etc/passwd")],
        [member("t", tarfile.DIRTYPE), member("t/d", tarfile.CHRTYPE)],
        [member("t", tarfile.DIRTYPE), member("t/before/evil", data=b"x")],
    ],
    ids=["absolute", "parent", "parent-inside", "through-link", "link-as-root", "hard-link",
         "absolute-hard-link", "device", "through-earlier-link"],
)  # fmt: skip
def test_nothing_that_a_guest_sends_is_written_elsewhere(
    tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]]
) -> None:
    outside, target = tmp_path / "out", tmp_path / "in"
    outside.mkdir()
    (outside / "there").write_text("mine")
    (target / "t").mkdir(parents=True)
    if members[-1][0].name == "t/before/evil":
        (target / "t" / "before").symlink_to(outside)  # of an earlier copy
    with pytest.raises((HostError, OSError)):
        unpack(stream(*members), target, "t")
    assert [path.name for path in outside.iterdir()] == ["there"]
    assert (outside / "there").stat().st_nlink == 1


def test_a_file_that_was_a_link_is_replaced_and_its_target_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "copy").symlink_to("mine")
    unpack(stream(member("x", data=b"new")), tmp_path, "copy")
    assert (tmp_path / "mine").read_text() == "mine"
    assert (tmp_path / "copy").read_text() == "new"
    assert not (tmp_path / "copy").is_symlink()


def test_a_stream_that_ends_early_leaves_no_half_of_a_file(tmp_path: Path) -> None:
    whole = stream(member("x", data=bytes(100_000))).getvalue()
    with pytest.raises(UnsafeArchive):
        unpack(io.BytesIO(whole[:50_000]), tmp_path, "x")
    assert list(tmp_path.iterdir()) == []


# --- SSH --------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("XK8S_STATE", str(tmp_path / "100% of it"))
    monkeypatch.delenv("XK8S_RUNTIME", raising=False)
    nodes = tuple(
        NodeRecord(name=name, role="worker", pid=1, started=1) for name in ("vm-001", "vm-002")
    )
    return Cluster(
        Record(name="lab", phase="running", overlays=(), digest="", accel="tcg", nodes=nodes)
    )


def test_ssh_itself_understands_the_config(cluster: Cluster) -> None:
    program = host_programs.find("ssh")
    if program is None:
        pytest.skip("no ssh here")
    path = ssh.write_config(cluster)
    assert path.stat().st_mode & 0o777 == 0o600
    done = subprocess.run(
        [program, "-G", "-F", path, "lab-vm-002"], capture_output=True, text=True, check=True
    )
    options = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    state = cluster.state_dir
    assert options["hostname"] == "vm-002"
    assert options["user"] == "root"
    assert options["stricthostkeychecking"] in ("true", "yes")
    assert options["identityfile"].replace("%%", "%") == str(state / "pki" / "ssh-client.key")
    assert options["userknownhostsfile"].replace("%%", "%") == str(state / "ssh_known_hosts")
    assert options["proxycommand"].endswith("--name lab ssh --proxy %h")
    assert (state / "pki" / "ssh-client.key").stat().st_mode & 0o777 == 0o600


def test_known_hosts_follow_the_keys(cluster: Cluster) -> None:
    first = ssh.write_known_hosts(cluster).read_text()
    assert first.startswith("xk8s-lab ssh-ed25519 ")
    assert first == ssh.write_known_hosts(cluster).read_text()
    (cluster.state_dir / "pki" / "ssh-server.key").unlink()
    assert ssh.write_known_hosts(cluster).read_text() != first


def test_an_ssh_key_is_read_by_openssh_and_made_once(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    pair = keys.ssh_key("mine")
    assert keys.ssh_key("mine") == pair
    assert not list(tmp_path.glob("*.crt"))
    program = host_programs.find("ssh-keygen")
    if program is None:
        pytest.skip("no ssh-keygen here")
    said = subprocess.run(
        [program, "-y", "-f", tmp_path / "mine.key"], capture_output=True, check=True
    ).stdout
    assert said.split()[:2] == pair.cert.split()[:2]


# --- messages ---------------------------------------------------------------------------


def test_messages_survive_any_cut() -> None:
    nonce = bytes(range(240, 256))
    sent = [(Kind.OUTPUT, b"\xff\x01\xff\x00\xff"), (Kind.ERRORS, b""), (Kind.EXIT, b"\xff")]
    data = b"left \xff\x01H" + BEGIN + encode(Kind.HELLO, nonce)
    data += b"".join(encode(kind, payload) for kind, payload in sent)
    for size in range(1, len(data)):
        decoder, found = Decoder(), []
        for at in range(0, len(data), size):
            piece = data[at : at + size]
            if decoder.begun_with(nonce):
                found += decoder.feed(piece)
            else:
                decoder.search(piece, nonce)
        found += decoder.feed(b"")
        assert [(message.kind, message.payload) for message in found] == sent


@pytest.mark.parametrize("data", [b"O\x7f\x00\x00\x00", b"?\x00\x00\x00\x00"])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"message|Kind"):
        list(Decoder().feed(data))
