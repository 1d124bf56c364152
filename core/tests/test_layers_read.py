"""Images are read as mkfs.erofs wrote them; fsck.erofs is the independent reader."""

from __future__ import annotations

import os
import random
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xk8s.build.layers.erofs_read import ErofsEntry, open_image
from xk8s.build.layers.erofs_write import make_image
from xk8s.errors import BuildError
from xk8s.util.files import walk

# Around the size of a block, where the tail is stored in another way.
SIZES = st.sampled_from([0, 1, 31, 2000, 4000, 4095, 4096, 4097, 8192, 8200, 20000])
NAMES = st.text("abcxyz-._é", min_size=1, max_size=12).filter(lambda name: name.strip("."))


def as_fsck_sees_it(image: Path, where: Path) -> dict[str, tuple[int, bytes | str]]:
    subprocess.run(
        ["fsck.erofs", f"--extract={where}", "--preserve-perms", image],
        check=True, capture_output=True,
    )  # fmt: skip
    found: dict[str, tuple[int, bytes | str]] = {}
    for path in walk(where):
        content: bytes | str = b""
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = path.read_bytes()
        found[f"/{path.relative_to(where)}"] = path.lstat().st_mode, content
    return found


@settings(max_examples=20, deadline=None)
@given(
    st.dictionaries(st.tuples(NAMES, NAMES), st.tuples(SIZES, st.integers(0, 3)), max_size=12),
    st.integers(0, 400),
)
def test_an_image_reads_as_it_was_written(
    files: dict[tuple[str, str], tuple[int, int]], many: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name, "tree")
        (tree / "many").mkdir(parents=True)
        for number in range(many):  # so that the directory fills several blocks
            (tree / "many" / f"a-rather-long-file-name-{number}").touch()
        for (directory, file), (size, kind) in files.items():
            place = tree / f"d{directory}" / file
            place.parent.mkdir(exist_ok=True)
            if kind == 0:
                place.symlink_to(f"../{'x' * (size % 4000)}target")
            else:
                place.write_bytes(random.Random(size).randbytes(size))
                place.chmod((0o644, 0o755, 0o600)[kind - 1])
        make_image(tree, Path(name, "image"))
        expected = as_fsck_sees_it(Path(name, "image"), Path(name, "out"))
        with open_image(Path(name, "image")) as image:
            found = list(image.walk())
            assert {entry.path for entry in found} == set(expected)
            assert len(found) == len(expected)
            for entry in found:
                mode, content = expected[entry.path]
                assert entry.mode == mode, entry
                assert image.find(entry.path) == entry
                if entry.kind == "link":
                    assert entry.target == content
                if entry.kind == "file":
                    assert entry.size == len(content)
                    assert image.read(entry.path) == content
    parents = [entry.path.rpartition("/")[0] for entry in found]
    assert all(parent == "" or parent in expected for parent in parents)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "tree" / "etc").mkdir(parents=True)
    (tmp_path / "tree" / "etc" / "motd").write_text("hello\n")
    (tmp_path / "tree" / "lib").symlink_to("usr/lib")
    os.mkfifo(tmp_path / "tree" / "pipe")
    make_image(tmp_path / "tree", tmp_path / "image", digest="d")
    return tmp_path / "image"


def test_kinds_and_what_is_not_there(image: Path) -> None:
    with open_image(image) as opened:
        assert opened.find("/etc/motd") == ErofsEntry(
            path="/etc/motd", mode=stat.S_IFREG | 0o644, size=6
        )
        kinds = {entry.path: (entry.kind, entry.size) for entry in opened.walk()}
        assert kinds == {
            "/etc": ("directory", 0),
            "/etc/motd": ("file", 6),
            "/lib": ("link", 7),
            "/pipe": ("other", 0),
        }
        for path in ("/et", "/etc/motd/x", "/lib/x", "/etc/mot"):
            assert opened.find(path) is None
        with pytest.raises(BuildError, match="/etc is not a file"):
            opened.read("/etc")
        with pytest.raises(BuildError, match="/x does not exist"):
            opened.read("/x")


def test_what_is_no_image_is_an_error(tmp_path: Path, image: Path) -> None:
    whole = image.read_bytes()
    for content in (b"", b"x" * 100, b"x" * 5000, whole[:1040]):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(BuildError, match="EROFS"), open_image(tmp_path / "other") as opened:
            list(opened.walk())


def test_a_damaged_image_is_an_error_and_no_hang(tmp_path: Path, image: Path) -> None:
    whole = bytearray(image.read_bytes())
    used = [at for at in range(1024, len(whole)) if whole[at]]
    dice = random.Random(4)
    errors = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for at in dice.sample(used, 4):
            damaged[at] = dice.randrange(256)
        (tmp_path / "other").write_bytes(damaged)
        try:
            with open_image(tmp_path / "other") as opened:
                for index, entry in enumerate(opened.walk()):
                    if index > 1000:
                        break
                    if entry.kind == "file":
                        opened.read(entry.path)
        except BuildError:
            errors += 1
    assert errors > 100, errors


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes devices")
def test_only_one_device_is_a_whiteout(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name, kind, number in (
        ("whiteout", stat.S_IFCHR, (0, 0)),
        ("null", stat.S_IFCHR, (1, 3)),
        ("disk", stat.S_IFBLK, (0, 0)),
    ):
        os.mknod(tree / name, kind, os.makedev(*number))
    make_image(tree, tmp_path / "image", digest="devices")
    with open_image(tmp_path / "image") as image:
        found = {entry.path: entry.kind for entry in image.walk()}
    assert found == {"/whiteout": "whiteout", "/null": "other", "/disk": "other"}
