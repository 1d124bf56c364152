"""Layers become images: the same one twice, whole or not at all, with nothing outside."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from xk8s.artifact_keys import artifact_key
from xk8s.build.artifacts.attempt import Resolved
from xk8s.build.layers.build import LayerStore, layer_key
from xk8s.build.layers.erofs_write import ALIGNMENT, make_image
from xk8s.build.layers.node_layer import make_node_image
from xk8s.errors import BuildError, HostError
from xk8s.overlay import Directory, File, Layer, Symlink, Take
from xk8s.sources import Artifact
from xk8s.util.files import tree_digest

TOOL = Artifact(name="tool", version="1", members=("bin/tool", "data"), sources=())


@pytest.fixture
def resolved(tmp_path: Path) -> dict[str, Resolved]:
    return {artifact_key(TOOL): make_tool(tmp_path / "artifact")}


def make_tool(tree: Path, *, text: str = "#!tool") -> Resolved:
    (tree / "bin").mkdir(parents=True)
    (tree / "data" / "deep").mkdir(parents=True)
    (tree / "bin" / "tool").write_text(text)
    (tree / "bin" / "tool").chmod(0o755)
    (tree / "data" / "deep" / "file").write_text("x" * 10000)
    (tree / "data" / "link").symlink_to("deep/file")
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink() and path.name != "tool":
            path.chmod(0o755 if path.is_dir() else 0o644)
    return Resolved(
        name="tool",
        version="1",
        key=artifact_key(TOOL),
        path=tree,
        digest=tree_digest(tree),
        provenance=(),
    )


ENTRIES = (
    File(path="/etc/motd", data=b"hello\n", mode=0o640),
    Take(artifact=TOOL, member="bin/tool", path="/usr/bin/tool"),
    Take(artifact=TOOL, member="bin/tool", path="/usr/bin/private", mode=0o700),
    Take(artifact=TOOL, member="data", path="/usr/share/tool"),
    File(path="/usr/share/tool/own", data=b"beside"),
    Symlink(path="/usr/bin/alias", target="tool"),
    Directory(path="/var/lib/tool", mode=0o700),
)


def unpacked(image: Path, where: Path) -> dict[str, tuple[str, int]]:
    """What an image has: path -> (content, permission bits), by an independent reader."""
    subprocess.run(["fsck.erofs", f"--extract={where}", image], check=True, capture_output=True)
    found = {}
    for path in where.rglob("*"):
        text = ""
        if path.is_symlink():
            text = f"-> {path.readlink()}"
        elif path.is_file():
            text = path.read_text()
        found[f"/{path.relative_to(where)}"] = (text, path.lstat().st_mode & 0o777)
    return found


def test_an_image_has_what_the_layer_says(tmp_path: Path, resolved) -> None:
    built = LayerStore(tmp_path / "cache").build(Layer(name="l", entries=ENTRIES), resolved)
    assert built.path == tmp_path / "cache" / "layers" / f"{built.key}.erofs"
    assert built.size == built.path.stat().st_size > 10000
    found = unpacked(built.path, tmp_path / "out")
    assert found["/etc/motd"] == ("hello\n", 0o640)
    assert found["/usr/bin/tool"] == ("#!tool", 0o755)
    assert found["/usr/bin/private"] == ("#!tool", 0o700)
    assert found["/usr/share/tool/deep/file"][0] == "x" * 10000
    assert found["/usr/share/tool/link"][0] == "-> deep/file"
    assert found["/usr/share/tool/own"][0] == "beside"
    assert found["/usr/bin/alias"][0] == "-> tool"
    assert found["/var/lib/tool"] == ("", 0o700)
    # Links into the cache are made of it, but it stays what it was.
    (tool,) = resolved.values()
    assert tree_digest(tool.path) == tool.digest


def test_the_same_layer_is_the_same_image(tmp_path: Path) -> None:
    images = set()
    for number, (mask, order) in enumerate([(0o077, 1), (0o000, -1)]):
        tool = make_tool(tmp_path / f"artifact{number}")
        for path in tool.path.rglob("*"):
            os.utime(path, (number * 1000, number * 1000), follow_symlinks=False)
        layer = Layer(name=f"name{number}", entries=ENTRIES[::order])
        store = LayerStore(tmp_path / f"cache{number}")
        old = os.umask(mask)
        try:
            built = store.build(layer, {tool.key: tool})
        finally:
            os.umask(old)
        images.add((built.key, built.path.read_bytes()))
    assert len(images) == 1


def test_the_key_follows_the_content(tmp_path: Path, resolved) -> None:
    layer = Layer(name="l", entries=ENTRIES)
    key = layer_key(layer, resolved)
    assert layer_key(Layer(name="other", entries=ENTRIES[::-1]), resolved) == key
    for number in range(len(ENTRIES)):
        fewer = ENTRIES[:number] + ENTRIES[number + 1 :]
        assert layer_key(Layer(name="l", entries=fewer), resolved) != key
    other = make_tool(tmp_path / "other", text="#!changed")
    store = LayerStore(tmp_path / "cache")
    one, two = store.build(layer, resolved), store.build(layer, {other.key: other})
    assert one.key != two.key


def test_a_second_build_does_nothing(tmp_path: Path, resolved, monkeypatch) -> None:
    store = LayerStore(tmp_path / "cache")
    first = store.build(Layer(name="l", entries=ENTRIES), resolved)
    monkeypatch.setenv("PATH", "")
    assert store.build(Layer(name="l", entries=ENTRIES), resolved) == first


def test_the_log_says_why_an_image_is_made(tmp_path: Path, resolved, records) -> None:
    store = LayerStore(tmp_path / "cache")
    store.build(Layer(name="l", entries=ENTRIES), resolved)
    store.build(Layer(name="l", entries=ENTRIES), resolved)
    store.build(Layer(name="l", entries=ENTRIES[:1]), resolved)
    found = [record for record in records if record.event.startswith("cache_")]
    assert [(record.event, record.fields.get("reason")) for record in found] == [
        ("cache_miss", "the cache has no image of this layer"),
        ("cache_hit", None),
        ("cache_miss", "its content changed: the cache has other images of this layer"),
    ]


def test_a_ready_image_is_linked_when_guests_can_map_it(tmp_path: Path, resolved) -> None:
    (tool,) = resolved.values()
    ready = tool.path / "data" / "deep" / "file"
    content = ready.read_bytes()
    layer = Layer(name="base", image=Take(artifact=TOOL, member="data/deep/file", path="/"))
    built = LayerStore(tmp_path / "cache").build(layer, resolved)
    assert built.path.read_bytes() == content.ljust(ALIGNMENT, b"\0")
    assert ready.read_bytes() == content
    os.truncate(ready, 2 * ALIGNMENT)
    built = LayerStore(tmp_path / "other").build(layer, resolved)
    assert built.path.samefile(ready)


def test_images_are_as_guests_map_them(tmp_path: Path) -> None:
    """Whole pieces of memory, on disk only what there is, no file's end among the inodes."""
    text = b"#!/bin/sh\n"
    layer = Layer(name="l", entries=(File(path="/usr/bin/x", data=text, mode=0o755),))
    built = LayerStore(tmp_path / "cache").build(layer, {})
    assert built.size == ALIGNMENT
    assert built.path.stat().st_blocks * 512 < ALIGNMENT / 8
    at = built.path.read_bytes().index(text)
    assert at % 4096 == 0


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ((File(path="etc/x", data=b""),), "not an absolute path"),
        ((File(path="/etc/../x", data=b""),), r"'\.\.'"),
        ((File(path="/bin/x", data=b""),), "use /usr/bin/x"),
        (
            (Symlink(path="/a", target="/etc"), File(path="/a/b", data=b"")),
            "leads through /a",
        ),
        (
            (Take(artifact=TOOL, member="data", path="/d"), File(path="/d/link/x", data=b"")),
            "leads through /d/link",
        ),
        ((File(path="/a", data=b""), File(path="/a", data=b"")), "two entries .* /a"),
        ((File(path="/a", data=b""), Symlink(path="/a", target="b")), "two entries .* /a"),
        ((File(path="/a", data=b""), Directory(path="/a")), "two entries .* /a"),
        (
            (
                Take(artifact=TOOL, member="data", path="/d"),
                Take(artifact=TOOL, member="data", path="/d"),
            ),
            "two entries .* /d",
        ),
        ((Take(artifact=TOOL, member="absent", path="/a"),), "has no 'absent'"),
        ((Take(artifact=TOOL, member="../..", path="/a"),), "has no"),
    ],
)
def test_bad_layers_are_errors_and_leave_nothing(tmp_path: Path, resolved, entries, match) -> None:
    with pytest.raises(BuildError, match=match) as caught:
        LayerStore(tmp_path / "cache").build(Layer(name="bad", entries=entries), resolved)
    assert "bad" in caught.value.where
    assert not [*(tmp_path / "cache").glob("layers/*"), *(tmp_path / "cache").glob("layers/.*")]


def test_an_artifact_that_changed_since_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="tool changed"):
        LayerStore(tmp_path / "cache").build(Layer(name="l", entries=ENTRIES), {})


def test_no_mkfs_is_an_error_that_says_what_to_install(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("xk8s.util.host_programs.find", lambda _: None)
    with pytest.raises(HostError, match=r"mkfs\.erofs") as caught:
        LayerStore(tmp_path).build(Layer(name="l", entries=ENTRIES[:1]), {})
    assert "erofs-utils" in caught.value.hint


def test_a_failing_mkfs_shows_its_log(tmp_path: Path, monkeypatch) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "mkfs.erofs").write_text("#!/bin/sh\necho 'bad magic' >&2; exit 7\n")
    (programs / "mkfs.erofs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    with pytest.raises(BuildError, match="exit code 7") as caught:
        LayerStore(tmp_path / "cache").build(Layer(name="l", entries=ENTRIES[:1]), {})
    assert caught.value.log == "bad magic"
    assert not list((tmp_path / "cache" / "layers").iterdir())


def test_a_node_image_is_private_and_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "node.img"
    for text in (b"one", b"two"):
        files = (File(path="/etc/key", data=text, mode=0o600), File(path="/etc/x", data=b"x"))
        make_node_image(files, out)
        assert out.stat().st_mode & 0o777 == 0o600
        assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["node.img"]
        found = unpacked(out, tmp_path / text.decode())
        assert found["/etc/key"] == (text.decode(), 0o600)
    before = out.read_bytes()
    make_node_image(files[::-1], out)
    assert out.read_bytes() == before
    with pytest.raises(BuildError):
        make_node_image((files[0], files[0]), out)
    assert out.read_bytes() == before


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a tmpfs")
def test_a_full_disk_says_where_and_leaves_nothing(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(small)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("this root may not mount")
    try:
        data = os.urandom(600_000)  # the tree fits, the image beside it does not
        for size in (1, 3):
            layer = Layer(name="big", entries=(File(path="/big", data=data * size),))
            with pytest.raises(HostError, match="disk is full") as caught:
                LayerStore(small).build(layer, {})
            assert str(small) in caught.value.where
            assert "XK8S_CACHE" in caught.value.hint
            assert not list((small / "layers").iterdir())
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_full_disk_injected_at_os_level_is_the_same_error(tmp_path: Path, monkeypatch) -> None:
    def no_room(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("xk8s.build.layers.build.stage_entries", no_room)
    with pytest.raises(HostError, match="disk is full"):
        LayerStore(tmp_path).build(Layer(name="l", entries=ENTRIES[:1]), {})
    assert not list((tmp_path / "layers").iterdir())


def test_the_digest_names_the_image(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for number in (1, 2):
        make_image(tmp_path / "tree", tmp_path / f"{number}", digest=str(number))
    assert (tmp_path / "1").read_bytes() != (tmp_path / "2").read_bytes()


def test_the_record_beside_an_image_says_what_is_in_it(tmp_path: Path, resolved) -> None:
    layer = Layer(name="l", entries=ENTRIES)
    built = LayerStore(tmp_path).build(layer, resolved, overlay="whose")
    record = json.loads(built.path.with_suffix(".json").read_text())
    assert record["name"] == "l"
    assert record["artifacts"] == ["tool"]
    assert record["overlay"] == "whose"
    assert record["roles"] == ["control-plane", "router", "tester", "worker"]
    assert record["size"] == built.size
