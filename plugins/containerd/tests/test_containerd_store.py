"""The store, baked by a real containerd."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from xk8s.util.jobs import Jobs
from xk8s_containerd.inside import tmpfiles
from xk8s_containerd.store import bake
from xk8s_images.layout import Member, config_digest, layer_tar, write_layout
from xk8s_images.stores import namespace_argv


def programs() -> Iterator[Path]:
    """Directories that may hold containerd and ctr for this machine."""
    if given := os.environ.get("CONTAINERDD"):
        yield Path(given)
    if found := shutil.which("containerd"):
        yield Path(found).parent
    from xk8s.util.paths import cache_dir

    yield from sorted((cache_dir() / "artifacts").glob("*/tree"))
    yield from sorted((cache_dir() / "artifacts").glob("*"))


@pytest.fixture
def containerd() -> Path:
    for directory in programs():
        if (directory / "containerd").is_file() and (directory / "ctr").is_file():
            return directory
    pytest.skip("no containerd: set CONTAINERDD, or run `xk8s up` once (it fills the cache)")


@pytest.fixture
def namespaces() -> None:
    argv = [*namespace_argv(), "true"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")


def recipe(tmp_path: Path, containerd: Path, layouts: dict[str, str]) -> Any:
    for name in ("out", "work"):
        (tmp_path / name).mkdir()
    jobs = Jobs()

    def run(argv, **options):
        return jobs.run(argv, log=tmp_path / "work/log", mark=str(tmp_path), **options)

    return SimpleNamespace(
        out=tmp_path / "out",
        work=tmp_path / "work",
        params={"images": layouts, "pinned": ["xk8s.local/a:1"], "layer": "containerd-store"},
        inputs={"containerd": containerd, **{name: tmp_path / name for name in layouts}},
        run=run,
        check=lambda: None,
    )


def test_images_are_baked_with_what_cri_wants(tmp_path, containerd, namespaces):
    for name, data in (("a", b"A"), ("b", b"B")):
        layer = layer_tar([Member(path="bin/x", mode=0o755, data=data * 5000)])
        (tmp_path / name).mkdir()
        write_layout(tmp_path / name / "oci", ref=f"xk8s.local/{name}:1", layer=layer)
    bake(recipe(tmp_path, containerd, {"a": "xk8s.local/a:1", "b": "xk8s.local/b:1"}))

    assert (tmp_path / "out/store.erofs").stat().st_size > 4096
    store = tmp_path / "work/tree/usr/lib/xk8s/containerd"
    blobs = {blob.name for blob in (store / "blobs").iterdir()}
    for name in "ab":
        assert config_digest(tmp_path / name / "oci").removeprefix("sha256:") in blobs
    contents = {path.read_bytes()[:1] for path in (store / "snapshots").glob("*/fs/bin/x")}
    assert contents == {b"A", b"B"}
    conf = (tmp_path / "work/tree/usr/lib/tmpfiles.d/xk8s-containerd-store.conf").read_text()
    links = [line.split() for line in conf.splitlines() if line.startswith("L ")]
    assert len(links) == len(blobs) + 2
    for words in links:
        inside = words[-1].removeprefix("/run/xk8s/layers/containerd-store/")
        assert (tmp_path / "work/tree" / inside).exists()
    meta = (store / "meta.db").read_bytes()
    for wanted in (b"io.cri-containerd.image", b"io.cri-containerd.pinned", b"xk8s.local/b:1"):
        assert wanted in meta


def test_a_damaged_image_is_an_error_with_containerds_words(tmp_path, containerd, namespaces):
    from xk8s.errors import BuildError

    layer = layer_tar([Member(path="x", data=b"1")])
    (tmp_path / "a").mkdir()
    write_layout(tmp_path / "a/oci", ref="xk8s.local/a:1", layer=layer)
    index = json.loads((tmp_path / "a/oci/index.json").read_bytes())
    manifest = tmp_path / "a/oci/blobs" / index["manifests"][0]["digest"].replace(":", "/")
    layer_digest = json.loads(manifest.read_bytes())["layers"][0]["digest"]
    (tmp_path / "a/oci/blobs" / layer_digest.replace(":", "/")).write_bytes(b"rubbish" * 512)
    with pytest.raises(BuildError) as caught:
        bake(recipe(tmp_path, containerd, {"a": "xk8s.local/a:1"}))
    assert "ctr:" in caught.value.log
    assert not (tmp_path / "out/store.erofs").exists()


def test_lines_name_the_layers_own_mount():
    lines = list(tmpfiles("containerd-store", ["ab12"], ["1"]))
    assert lines[-1].endswith(
        "/snapshots/1 - - - - /run/xk8s/layers/containerd-store/usr/lib/xk8s/containerd/snapshots/1"
    )
    assert sum(line.startswith("C ") for line in lines) == 2
    assert all(len(line.split()) in (6, 7) for line in lines)
