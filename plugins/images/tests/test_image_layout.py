from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xk8s_images.layout import Member, config_digest, layer_tar, layout_tar, relative, write_layout

NAMES = st.text(alphabet="abcxyz-._é", min_size=1, max_size=8).filter(
    lambda s: s not in (".", "..")
)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
FILES = st.dictionaries(PATHS, st.binary(max_size=64), max_size=6).filter(
    lambda files: not any(a != b and b.startswith(a + "/") for a in files for b in files)
)


@given(files=FILES, seed=st.randoms())
def test_the_order_of_entries_does_not_change_a_layer(files, seed):
    members = [Member(path=path, mode=0o644, data=data) for path, data in files.items()]
    first = layer_tar(members)
    seed.shuffle(members)
    assert layer_tar(members) == first
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        assert {m.name for m in tar if m.isfile()} == set(files)
        assert [m.name for m in tar] == sorted(m.name for m in tar)
        assert all(m.uid == m.gid == m.mtime == 0 for m in tar)


def test_a_layout_is_the_same_twice_and_its_digests_hold(tmp_path: Path):
    layer = layer_tar([Member(path="bin/x", data=b"\x7fELF"), Member(path="x", target="bin/x")])
    for name in ("a", "b"):
        write_layout(tmp_path / name, ref="xk8s.local/x:1", layer=layer, entrypoint=["/x"])
        layout_tar(tmp_path / name, tmp_path / f"{name}.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    index = json.loads((tmp_path / "a/index.json").read_bytes())
    (manifest,) = index["manifests"]
    assert manifest["annotations"]["org.opencontainers.image.ref.name"] == "xk8s.local/x:1"
    for blob in (tmp_path / "a/blobs/sha256").iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    config = json.loads(
        (tmp_path / "a/blobs" / config_digest(tmp_path / "a").replace(":", "/")).read_bytes()
    )
    assert config["config"] == {"Entrypoint": ["/x"]}
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(layer).hexdigest()]


@pytest.mark.parametrize(
    "members",
    [
        [Member(path="a", data=b"1"), Member(path="a", data=b"2")],
        [Member(path="a", data=b"1"), Member(path="a/b", data=b"2")],
    ],
)
def test_two_owners_of_one_path_are_an_error(members):
    with pytest.raises(ValueError, match="/a is"):
        layer_tar(members)


@pytest.mark.parametrize("path", ["etc/passwd", "/../x", "/", "/a/../../x"])
def test_paths_stay_below_the_root(path):
    with pytest.raises(ValueError):
        relative(path)
