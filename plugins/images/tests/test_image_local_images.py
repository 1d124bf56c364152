"""What the words for local images mean, asked of archives that a real skopeo wrote."""

from __future__ import annotations

import gzip
import io
import json
import random
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve
from xk8s.build.artifacts.store import Store
from xk8s.errors import UsageError
from xk8s.progress import Silent
from xk8s_images import ImagesSettings, image_artifact
from xk8s_images.archive import ArchivedImage
from xk8s_images.layout import REF_NAME, config_digest, layout_tar, manifest_of
from xk8s_images.local_images import choose, parse, pin
from xk8s_images.settings import images_of

Make = Callable[..., Path]
Copy = Callable[..., None]


def one(text: str) -> str:
    (image,) = pin(text)
    # What is pinned stays as it is, and is read back as what it was.
    assert parse(str(image)) == image
    assert pin(str(image)) == (image,)
    return str(image)


def test_the_name_is_the_one_given_or_the_one_recorded(
    tmp_path: Path, layout: Make, skopeo: Copy
) -> None:
    source = f"oci:{layout()}"
    archive = tmp_path / "d.tar"
    skopeo(source, f"docker-archive:{archive}:docker.io/library/app:dev")
    image = config_digest(layout())
    recorded = f"docker-archive:{archive}:docker.io/library/app:dev@{image}"
    assert one(f"docker-archive:{archive}") == recorded
    assert one(f"docker-archive:{archive}:app:dev") == recorded
    given = one(f"docker-archive:{archive}:quay.io/me/app:2")
    assert given == f"docker-archive:{archive}:quay.io/me/app:2@{image}"

    skopeo(source, f"oci-archive:{tmp_path}/o.tar:quay.io/x/app:1.0")
    (found,) = pin(f"oci-archive:{tmp_path}/o.tar")
    assert found.ref == "quay.io/x/app:1.0"
    assert found.digest != image, "the digest of a manifest, not of a configuration"


@pytest.mark.parametrize("program", ["gzip", "xz", "zstd"])
def test_archives_may_be_compressed(
    tmp_path: Path, layout: Make, skopeo: Copy, program: str
) -> None:
    skopeo(f"oci:{layout()}", f"docker-archive:{tmp_path}/d.tar:x/app:1")
    plain = one(f"docker-archive:{tmp_path}/d.tar")
    with (tmp_path / "packed").open("wb") as out:
        subprocess.run([program, "-c", tmp_path / "d.tar"], stdout=out, check=True)
    assert one(f"docker-archive:{tmp_path}/packed") == plain.replace("d.tar", "packed")


def test_all_images_of_an_archive_are_meant_or_the_one_that_is_named(
    tmp_path: Path, layout: Make, skopeo: Copy
) -> None:
    more = ["--additional-tag", "docker.io/library/b:2"]
    skopeo(f"oci:{layout()}", f"docker-archive:{tmp_path}/d.tar:docker.io/library/a:1", *more)
    found = pin(f"docker-archive:{tmp_path}/d.tar")
    assert [image.ref for image in found] == ["docker.io/library/a:1", "docker.io/library/b:2"]
    assert len({image.digest for image in found}) == 1
    (named,) = pin(f"docker-archive:{tmp_path}/d.tar:b:2")
    assert named == found[1]


def test_a_layout_with_tags_alone_wants_a_name(tmp_path: Path, layout: Make, skopeo: Copy) -> None:
    target = tmp_path / "many"
    skopeo(f"oci:{layout('one', name='x')}", f"oci:{target}:1.0")
    with pytest.raises(UsageError, match=r"no name is recorded \(only the tag 1.0\)") as caught:
        pin(f"oci:{target}")
    assert caught.value.hint.endswith(":NAME:TAG")
    with pytest.raises(UsageError, match=r"'1\.0' is a tag there"):
        pin(f"oci:{target}:1.0")
    only = one(f"oci:{target}:my/app")
    assert ":docker.io/my/app:latest@" in only

    skopeo(f"oci:{layout('two', name='y')}", f"oci:{target}:2.0")
    first, second = (one(f"oci:{target}:my/app:{tag}") for tag in ("1.0", "2.0"))
    assert first.partition("@")[2] == only.partition("@")[2] != second.partition("@")[2]
    with pytest.raises(UsageError, match=r"no image docker\.io/my/app:3\.0 in it") as caught:
        pin(f"oci:{target}:my/app:3.0")
    assert "1.0, 2.0" in caught.value.hint


def test_relative_paths_and_home_become_absolute(
    tmp_path: Path, layout: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout(name="here")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = f"oci:{tmp_path}/here:xk8s.local/a:1@{manifest_of(tmp_path / 'here')['digest']}"
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert one("oci:../here").replace("/below/..", "") == expected
    monkeypatch.chdir(tmp_path)
    assert one("oci:here") == one("oci:./here") == one("oci:~/here") == expected


def test_what_docker_and_buildx_record_together(tmp_path: Path, layout: Make) -> None:
    """buildx writes the name for containerd, and its tag alone where OCI has the name."""
    path = layout(ref="docker.io/library/app:dev")
    index = json.loads((path / "index.json").read_bytes())
    index["manifests"][0]["annotations"][REF_NAME] = "dev"
    attestation = {
        **index["manifests"][0],
        "platform": {"os": "unknown", "architecture": "unknown"},
        "digest": "sha256:" + "0" * 64,
    }
    index["manifests"].append(attestation)
    (path / "index.json").write_text(json.dumps(index))
    assert ":docker.io/library/app:dev@" in one(f"oci:{path}")


def test_other_platforms_are_passed_over(layout: Make) -> None:
    path = layout(architecture="arm64")
    with pytest.raises(UsageError, match="no image for linux/amd64"):
        pin(f"oci:{path}")


def old_docker_archive(path: Path, layout: Path) -> None:
    """As docker before 25 wrote it: a directory per layer, a link for a layer that repeats."""
    manifest = json.loads((layout / "index.json").read_bytes())["manifests"][0]
    document = json.loads(blob(layout, manifest["digest"]))
    config = json.loads(blob(layout, document["config"]["digest"]))
    config["rootfs"]["diff_ids"] *= 2
    with tarfile.open(path, "w") as tar:
        add(tar, "aa/layer.tar", blob(layout, document["layers"][0]["digest"]))
        link = tarfile.TarInfo("bb/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../aa/layer.tar"
        tar.addfile(link)
        add(tar, "c.json", json.dumps(config).encode())
        entry = {
            "Config": "c.json",
            "RepoTags": ["old:1"],
            "Layers": ["aa/layer.tar", "bb/layer.tar"],
        }
        add(tar, "manifest.json", json.dumps([entry]).encode())


def blob(layout: Path, digest: str) -> bytes:
    return (layout / "blobs" / digest.replace(":", "/")).read_bytes()


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def test_archives_of_old_dockers(tmp_path: Path, layout: Make, own_cache: Path) -> None:
    old_docker_archive(tmp_path / "d.tar", layout())
    text = one(f"docker-archive:{tmp_path}/d.tar")
    assert ":docker.io/library/old:1@" in text
    (image,) = images_of(ImagesSettings(refs=(text,)))
    out = Store(own_cache).get(image_artifact(image), Silent()).path / "oci"
    layers = json.loads(blob(out, manifest_of(out)["digest"]))["layers"]
    assert len(layers) == 2
    assert layers[0] == layers[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("oci:{0}/absent", "does not exist"),
        ("docker-archive:{0}/absent.tar", "the file does not exist"),
        ("docker-archive:{0}", "it is not a file"),
        ("oci:{0}/text", "it is not a directory"),
        ("oci-archive:{0}/text", "cannot be read"),
        ("oci:{0}/empty", "it is not an OCI layout: .*index.json"),
        ("docker-archive:{0}/layout.tar", "not an archive as docker save writes it: manifest.json"),
        ("oci:{0}/layout:Upper/Case", "is not an image reference"),
        ("oci:{0}/layout@sha256:" + "0" * 64, "but not the image's name"),
    ],
)
def test_what_is_no_image_is_told(tmp_path: Path, layout: Make, text: str, message: str) -> None:
    (tmp_path / "text").write_text("no archive")
    (tmp_path / "empty").mkdir()
    layout_tar(layout(), tmp_path / "layout.tar")
    with pytest.raises(UsageError, match=message):
        pin(text.format(tmp_path))


@pytest.mark.parametrize("share", [0.01, 0.5, 0.95])
def test_a_damaged_archive_is_told(tmp_path: Path, layout: Make, share: float) -> None:
    layout_tar(layout(random.Random(1).randbytes(50_000).hex()), tmp_path / "o.tar")
    packed = gzip.compress((tmp_path / "o.tar").read_bytes(), mtime=0)
    (tmp_path / "cut.tar.gz").write_bytes(packed[: int(len(packed) * share)])
    with pytest.raises(UsageError, match=r"cannot be read|is not an archive"):
        pin(f"oci-archive:{tmp_path}/cut.tar.gz")


def test_a_manifest_that_is_not_what_its_digest_says(layout: Make) -> None:
    path = layout()
    digest = manifest_of(path)["digest"]
    with (path / "blobs" / digest.replace(":", "/")).open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(UsageError, match="is damaged"):
        pin(f"oci:{path}")


def test_what_was_found_in_an_archive_is_remembered_until_it_changes(
    tmp_path: Path, layout: Make
) -> None:
    layout_tar(layout("one"), tmp_path / "o.tar")
    first = one(f"oci-archive:{tmp_path}/o.tar")
    layout_tar(layout("two"), tmp_path / "o.tar")
    second = one(f"oci-archive:{tmp_path}/o.tar")
    assert first.partition("@")[0] == second.partition("@")[0]
    assert first != second


def test_choosing_among_images_that_are_the_same() -> None:
    image = ArchivedImage(digest="sha256:1", names=("docker.io/library/a:1",))
    same = [image, evolve(image, names=("docker.io/library/b:1",))]
    assert choose(same, "c:1", "x") == [("docker.io/library/c:1", "sha256:1")]
    other = [image, evolve(image, digest="sha256:2", names=("docker.io/library/b:1",))]
    with pytest.raises(UsageError, match="no image"):
        choose(other, "c:9", "x")
    nameless = [image, ArchivedImage(digest="sha256:3")]
    with pytest.raises(UsageError, match="for an image in it"):
        choose(nameless, "", "x")


def test_an_image_of_podman_save_has_two_digests_but_one_identity(
    tmp_path: Path, layout: Make, skopeo: Copy
) -> None:
    """Saved twice, at other times: another file, the same image."""
    for name in ("1.tar", "2.tar"):
        skopeo(f"oci:{layout()}", f"docker-archive:{tmp_path}/{name}:x/app:1")
    with tarfile.open(tmp_path / "2.tar", "a") as tar:
        add(tar, "unused", b"more")
    first, second = (one(f"docker-archive:{tmp_path}/{name}") for name in ("1.tar", "2.tar"))
    assert first == second.replace("2.tar", "1.tar")
    shutil.rmtree(tmp_path / "layout")
