from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from xk8s.artifact_keys import artifact_key
from xk8s.context import Context
from xk8s.errors import PlanError
from xk8s.overlay import Directory, File, Symlink, Take
from xk8s.sources import Artifact, OwnDirectory, Recipe
from xk8s.testing import context_of
from xk8s_images import Image, ImagesSettings, image_artifact, image_artifacts, image_ref
from xk8s_images.build import build
from xk8s_images.layout import config_digest
from xk8s_images.reference import full_ref


def context(*images: Image, refs: tuple[str, ...] = ()) -> Context:
    return context_of("images", ImagesSettings(refs=refs), fragments={"images.image": images})


def image(ref: str, data: bytes) -> Image:
    return Image(ref=ref, entries=(File(path="/a", data=data),), entrypoint=("/a",))


def test_images_are_sorted_and_the_same_one_twice_is_one():
    ctx = context(image("x/b:1", b"1"), image("x/a:1", b"1"), image("x/b:1", b"1"))
    assert [image_ref(artifact) for artifact in image_artifacts(ctx)] == ["x/a:1", "x/b:1"]


def test_one_reference_with_two_contents_names_both():
    ctx = context(image("x/a:1", b"1"), Image(ref="x/a:1", entrypoint=("/other",)))
    with pytest.raises(PlanError, match=r"x/a:1: one built of /a running /a and .*/other"):
        image_artifacts(ctx)


def test_references_of_the_setting_are_pulled():
    (artifact,) = image_artifacts(context(refs=("busybox",)))
    assert image_ref(artifact) == "docker.io/library/busybox:latest"
    (source,) = artifact.sources
    assert isinstance(source, Recipe)
    assert source.inputs[0].sources[0].ref == "docker.io/library/busybox:latest"


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("a/b", "docker.io/a/b:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("127.0.0.1:5000/x:2", "127.0.0.1:5000/x:2"),
        ("q.io/x@sha256:00", "q.io/x@sha256:00"),
    ],
)
def test_references_are_spelt_out(short, full):
    assert full_ref(short) == full


def test_the_recipe_builds_every_kind_of_entry_from_its_params(tmp_path: Path):
    tool = Artifact(
        name="tool", version="1", members=("t",), sources=(OwnDirectory(path=str(tmp_path)),)
    )
    (tmp_path / "in").mkdir()
    (tmp_path / "in/t").write_bytes(b"tool")
    artifact = image_artifact(
        Image(
            ref="x/a:1",
            entries=(
                Take(artifact=tool, member="t", path="/bin/t", mode=0o755),
                Symlink(path="/t", target="bin/t"),
                Directory(path="/tmp", mode=0o1777),
                File(path="/etc/x", data=b"\0binary"),
            ),
        )
    )
    assert len(artifact_key(artifact)) == 64
    (recipe,) = artifact.sources
    assert isinstance(recipe, Recipe)
    digests = []
    for name in ("one", "two"):
        out = tmp_path / name
        out.mkdir()
        recipe = SimpleNamespace(
            params=recipe.params, inputs={"tool": tmp_path / "in"}, out=out, check=lambda: None
        )
        build(recipe)
        digests.append(config_digest(out / "oci"))
    assert digests[0] == digests[1]
