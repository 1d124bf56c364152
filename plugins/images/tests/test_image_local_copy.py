"""From an image of this machine to an artifact: the same content is the same, wherever it lies."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from xk8s.artifact_keys import artifact_key
from xk8s.build.artifacts.attempt import Resolved
from xk8s.build.artifacts.lockfile import LockFile
from xk8s.build.artifacts.store import Store
from xk8s.errors import ArtifactError, Xk8sError
from xk8s.progress import Silent
from xk8s.sources import LOCAL, Artifact
from xk8s_images import ImagesSettings, image_artifact
from xk8s_images.layout import CONTAINERD_NAME, config_digest, config_of, layout_tar, manifest_of
from xk8s_images.settings import images_of, pin_refs

Make = Callable[..., Path]
Copy = Callable[..., None]


def artifact(text: str) -> Artifact:
    (image,) = images_of(ImagesSettings(refs=pin_refs([text])))
    return image_artifact(image)


def get(text: str, cache: Path) -> Resolved:
    return Store(cache).get(artifact(text), Silent())


def check_layout(layout: Path, ref: str) -> None:
    """What every layout must be: named, and each blob what its name says."""
    descriptor = manifest_of(layout)
    assert descriptor["annotations"][CONTAINERD_NAME] == ref
    document = json.loads((layout / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes())
    wanted = {descriptor["digest"], *(layer["digest"] for layer in document["layers"])}
    wanted.add(document["config"]["digest"])
    blobs = list((layout / "blobs" / "sha256").iterdir())
    assert {f"sha256:{blob.name}" for blob in blobs} == wanted
    for blob in blobs:
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
        assert blob.stat().st_mode & 0o777 == 0o644
    for layer in document["layers"]:
        assert (
            layer["size"] == (layout / "blobs" / layer["digest"].replace(":", "/")).stat().st_size
        )


def test_every_kind_of_archive_keeps_the_image_as_it_is(
    tmp_path: Path, layout: Make, skopeo: Copy, own_cache: Path
) -> None:
    source = layout()
    skopeo(f"oci:{source}", f"docker-archive:{tmp_path}/d.tar:x/app:1")
    layout_tar(source, tmp_path / "o.tar")
    (tmp_path / "d.tar.gz").write_bytes(gzip.compress((tmp_path / "d.tar").read_bytes()))
    for text in (
        f"oci:{source}:x/app:1",
        f"oci-archive:{tmp_path}/o.tar:x/app:1",
        f"docker-archive:{tmp_path}/d.tar",
        f"docker-archive:{tmp_path}/d.tar.gz",
    ):
        resolved = get(text, own_cache)
        out = resolved.path / "oci"
        check_layout(out, "docker.io/x/app:1")
        assert config_digest(out) == config_digest(source), "the ID that docker shows"
        (given,) = resolved.provenance
        assert given.kind == LOCAL
        assert given.detail.startswith(text.partition(":")[0])
    assert not list((own_cache / "artifacts").glob(".tmp*"))


def test_the_same_content_is_the_same_artifact_and_another_one_is_not(
    tmp_path: Path, layout: Make, own_cache: Path
) -> None:
    layout_tar(layout("one"), tmp_path / "o.tar")
    first = artifact(f"oci-archive:{tmp_path}/o.tar:x/app:1")
    shutil.copy(tmp_path / "o.tar", tmp_path / "elsewhere.tar")
    moved = artifact(f"oci-archive:{tmp_path}/elsewhere.tar:x/app:1")
    assert artifact_key(first) == artifact_key(moved)
    layout_tar(layout("two"), tmp_path / "o.tar")
    changed = artifact(f"oci-archive:{tmp_path}/o.tar:x/app:1")
    assert artifact_key(first) != artifact_key(changed)
    store = Store(own_cache)
    digests = [store.get(artifact, Silent()).digest for artifact in (moved, changed)]
    assert digests[0] != digests[1]
    assert digests[0] == Store(tmp_path / "other").get(moved, Silent()).digest


def test_what_is_in_the_cache_is_not_looked_for_again(
    tmp_path: Path, layout: Make, own_cache: Path
) -> None:
    layout_tar(layout(), tmp_path / "o.tar")
    wanted = artifact(f"oci-archive:{tmp_path}/o.tar:x/app:1")
    digest = Store(own_cache).get(wanted, Silent()).digest
    (tmp_path / "o.tar").unlink()
    again = wanted.sources[0].params["digest"]
    found = artifact(f"oci-archive:{tmp_path}/o.tar:x/app:1@{again}")
    assert Store(own_cache).get(found, Silent(), offline=True).digest == digest


def refuse(wanted: Artifact, cache: Path, match: str) -> Xk8sError:
    with pytest.raises(ArtifactError, match=match) as caught:
        Store(cache).get(wanted, Silent())
    assert not list((cache / "artifacts").glob("*/provenance.json"))
    assert not list((cache / "artifacts").glob(".tmp*"))
    assert caught.value.where
    return caught.value


def test_an_image_that_is_gone_or_changed_since_the_plan(
    tmp_path: Path, layout: Make, own_cache: Path
) -> None:
    for text, change in (
        (f"oci:{tmp_path}/layout", lambda: layout("two")),
        (f"oci-archive:{tmp_path}/o.tar", lambda: layout_tar(layout("two"), tmp_path / "o.tar")),
    ):
        layout_tar(layout("one"), tmp_path / "o.tar")
        wanted = artifact(text)
        change()
        refuse(wanted, own_cache, "not the one that was there when the plan was made")
    (tmp_path / "o.tar").unlink()
    shutil.rmtree(tmp_path / "layout")
    for text in (f"oci:{tmp_path}/layout", f"oci-archive:{tmp_path}/o.tar"):
        wanted = artifact(f"{text}:x/app:1@sha256:{'0' * 64}")
        refuse(wanted, own_cache, "no longer exists, and the cache does not have it")


def test_a_layer_that_is_not_what_the_manifest_says(layout: Make, own_cache: Path) -> None:
    path = layout()
    wanted = artifact(f"oci:{path}")
    document = manifest_of(path)
    manifest = json.loads((path / "blobs" / document["digest"].replace(":", "/")).read_bytes())
    layer = path / "blobs" / manifest["layers"][0]["digest"].replace(":", "/")
    layer.write_bytes(layer.read_bytes().replace(b"hello", b"jello"))
    refuse(wanted, own_cache, "not what its name says")
    layer.unlink()
    refuse(wanted, own_cache, "damaged")


def test_a_layout_whose_blobs_are_links(layout: Make, tmp_path: Path, own_cache: Path) -> None:
    path = layout()
    (path / "blobs").rename(tmp_path / "elsewhere")
    (path / "blobs").symlink_to(tmp_path / "elsewhere")
    check_layout(get(f"oci:{path}", own_cache).path / "oci", "xk8s.local/a:1")


def write_docker(path: Path, layers: list[bytes], names: list[str], **more: object) -> None:
    """An archive with these layers (as they are in the file) and their names."""
    plain = [gzip.decompress(layer) if layer[:2] == b"\x1f\x8b" else layer for layer in layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Healthcheck": {"Test": ["NONE"]}},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in plain],
        },
        **more,
    }
    entry = {"Config": "c.json", "RepoTags": ["x/app:1"], "Layers": names}
    with tarfile.open(path, "w") as tar:
        for name, data in dict(zip(names, layers, strict=True)).items():
            add(tar, name, data)
        add(tar, "c.json", json.dumps(config).encode())
        add(tar, "manifest.json", json.dumps([entry]).encode())


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def test_docker_archives_with_compressed_and_repeated_layers(
    tmp_path: Path, own_cache: Path
) -> None:
    path = tmp_path / "d.tar"
    packed = gzip.compress(b"1" * 1024, mtime=0)
    write_docker(path, [b"0" * 1024, packed, b"0" * 1024], ["a/layer.tar", "b.tar", "a/layer.tar"])
    out = get(f"docker-archive:{path}", own_cache).path / "oci"
    check_layout(out, "docker.io/x/app:1")
    descriptor = manifest_of(out)
    manifest = json.loads((out / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes())
    kinds = [layer["mediaType"].rpartition(".")[2] for layer in manifest["layers"]]
    assert kinds == ["tar", "tar+gzip", "tar"]
    assert config_of(out)["config"] == {"Healthcheck": {"Test": ["NONE"]}}, "byte for byte"


def test_archives_of_new_dockers_are_both_kinds_at_once(
    tmp_path: Path, layout: Make, own_cache: Path
) -> None:
    """From 25 on docker writes an OCI layout, and its old manifest.json that leads into it."""
    source = layout(ref="docker.io/x/app:1")
    layout_tar(source, tmp_path / "d.tar")
    manifest = json.loads(
        (source / "blobs" / manifest_of(source)["digest"].replace(":", "/")).read_bytes()
    )
    names = [f"blobs/{layer['digest'].replace(':', '/')}" for layer in manifest["layers"]]
    config = f"blobs/{manifest['config']['digest'].replace(':', '/')}"
    entry = {"Config": config, "RepoTags": ["x/app:1"], "Layers": names}
    with tarfile.open(tmp_path / "d.tar", "a") as tar:
        add(tar, "manifest.json", json.dumps([entry]).encode())
    for transport in ("docker-archive", "oci-archive"):
        out = get(f"{transport}:{tmp_path}/d.tar", own_cache).path / "oci"
        check_layout(out, "docker.io/x/app:1")
        assert config_digest(out) == config_digest(source)


@pytest.mark.parametrize(
    ("layers", "ids", "match"),
    [
        ([b"other"], [hashlib.sha256(b"this").hexdigest()], "is not sha256:"),
        ([b"x"], [], "0 layers are named, but 1 exist"),
    ],
)
def test_docker_archives_that_are_damaged(
    tmp_path: Path, own_cache: Path, layers: list[bytes], ids: list[str], match: str
) -> None:
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{diff_id}" for diff_id in ids]}
    write_docker(tmp_path / "d.tar", layers, ["l.tar"], rootfs=rootfs)
    refuse(artifact(f"docker-archive:{tmp_path}/d.tar"), own_cache, match)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../outside"])
def test_an_archive_cannot_reach_outside(tmp_path: Path, own_cache: Path, name: str) -> None:
    (tmp_path / "outside").write_bytes(b"secret")
    rootfs = {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(b"secret").hexdigest()]}
    path = tmp_path / "d.tar"
    write_docker(path, [b"x"], ["l.tar"], rootfs=rootfs)
    with tarfile.open(path) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}
    files["manifest.json"] = files["manifest.json"].replace(b"l.tar", name.encode())
    with tarfile.open(path, "w") as tar:
        for member, data in files.items():
            add(tar, member, data)
    refuse(artifact(f"docker-archive:{path}"), own_cache, "damaged")
    with tarfile.open(path, "a") as tar:
        add(tar, name, b"x")
    refuse(artifact(f"docker-archive:{path}"), own_cache, "unsafe path")


def test_images_of_this_machine_are_not_locked(
    tmp_path: Path, layout: Make, own_cache: Path
) -> None:
    """Each build is another one: a lock file would only grow."""
    lock = LockFile(path=tmp_path / "xk8s.lock", update=True)
    Store(own_cache, lock=lock).get(artifact(f"oci:{layout()}"), Silent())
    assert lock.read() == ()
