"""Artifacts for the images that overlays contribute: one OCI layout each."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

from attrs import evolve
from xk8s.context import Context
from xk8s.errors import PlanError
from xk8s.image_tags import pinned
from xk8s.overlay import Directory, Entry, File, Symlink, Take
from xk8s.sources import Artifact, OciImage, Recipe

from xk8s_images.image import Image
from xk8s_images.layout import Member, layer_tar, members_of, relative, write_index, write_layout
from xk8s_images.settings import ImagesSettings, images_of

if TYPE_CHECKING:
    from xk8s.recipe import RecipeContext

POINT = "images.image"
MEMBER = "oci"
"""Member of every image artifact: an OCI layout directory."""


def all_images(ctx: Context) -> tuple[Image, ...]:
    """Return what overlays contribute and what the settings add, by reference.

    `PlanError` when one reference has two contents; the same content twice is one image.
    """
    settings = ctx.all_settings.get(ImagesSettings, ImagesSettings())
    found: dict[str, Image] = {}
    contributed = (_current(image) for image in ctx.fragments(POINT, Image))
    for image in (*contributed, *images_of(settings)):
        other = found.setdefault(image.ref, image)
        if other != image:
            raise PlanError(
                f"two different images are called {image.ref}: "
                f"{_describe(other)} and {_describe(image)}",
                where=POINT,
                hint="give one of them a different reference",
            )
    return tuple(found[ref] for ref in sorted(found))


def image_artifacts(ctx: Context) -> tuple[Artifact, ...]:
    """Return one artifact per image, by reference; each has the member "oci", an OCI layout
    directory whose index names the image by its full reference. `image_ref` reads it back.
    """
    return tuple(image_artifact(image) for image in all_images(ctx))


def image_artifact(image: Image) -> Artifact:
    """Return the artifact of one image."""
    if isinstance(image.source, Recipe):
        recipe = image.source
    elif image.source is not None:
        downloaded = Artifact(
            name="registry-" + _file_name(image.ref),
            version=image.ref,
            members=(image.source.member,),
            sources=(image.source,),
        )
        params: dict[str, Any] = {"ref": image.ref, "member": image.source.member}
        recipe = Recipe(function="xk8s_images.build:rename", params=params, inputs=(downloaded,))
    else:
        inputs = {
            entry.artifact.name: entry.artifact
            for entry in image.entries
            if isinstance(entry, Take)
        }
        params = {
            "ref": image.ref,
            "entries": [_entry_json(entry) for entry in image.entries],
            "entrypoint": list(image.entrypoint),
            "cmd": list(image.cmd),
            "env": list(image.env),
        }
        recipe = Recipe(
            function="xk8s_images.build:build", params=params, inputs=tuple(inputs.values())
        )
    return Artifact(
        name="image-" + _file_name(image.ref),
        version=image.ref,
        members=(MEMBER,),
        sources=(recipe,),
    )


def image_ref(artifact: Artifact) -> str:
    """Return the reference of the image in the artifact."""
    return artifact.version


def build(recipe: RecipeContext) -> None:
    """Recipe: the layout of an image that is built from files."""
    params = recipe.params
    members: list[Member] = []
    for entry in params["entries"]:
        recipe.check()
        path = relative(entry["path"])
        match entry["kind"]:
            case "file":
                data = base64.b64decode(entry["data"])
                members.append(Member(path=path, mode=entry["mode"], data=data))
            case "symlink":
                members.append(Member(path=path, target=entry["target"]))
            case "directory":
                members.append(Member(path=path, mode=entry["mode"]))
            case "take":
                tree = recipe.inputs[entry["artifact"]] / entry["member"]
                members.extend(members_of(tree, path, entry["mode"]))
            case other:
                raise ValueError(f"unknown kind of entry {other!r}")
    write_layout(
        recipe.out / MEMBER,
        ref=params["ref"],
        layer=layer_tar(members),
        entrypoint=params["entrypoint"],
        cmd=params["cmd"],
        env=params["env"],
    )


def rename(recipe: RecipeContext) -> None:
    """Recipe: a downloaded layout, with the index naming the image by its full reference."""
    (downloaded,) = recipe.inputs.values()
    source, out = downloaded / recipe.params["member"], recipe.out / MEMBER
    (out / "blobs" / "sha256").mkdir(parents=True)
    for blob in sorted((source / "blobs" / "sha256").iterdir()):
        # A link if possible: image layers are large.
        target = out / "blobs" / "sha256" / blob.name
        try:
            target.hardlink_to(blob)
        except OSError:
            target.write_bytes(blob.read_bytes())
    manifest = dict(json.loads((source / "index.json").read_bytes())["manifests"][0])
    manifest.pop("annotations", None)
    write_index(out, manifest, recipe.params["ref"])


def _current(image: Image) -> Image:
    """Add the digest of a tag that was looked up again; settings have theirs already."""
    if not isinstance(image.source, OciImage):
        return image
    return evolve(image, source=evolve(image.source, ref=pinned(image.source.ref)))


def _describe(image: Image) -> str:
    if isinstance(image.source, OciImage):
        return f"one from the registry ({image.source.ref})"
    if image.source is not None:
        return f"one from {', '.join(image.source.places.values()) or image.source.function}"
    what = ", ".join(entry.path for entry in image.entries) or "no files"
    return f"one built of {what} running {' '.join((*image.entrypoint, *image.cmd)) or 'nothing'}"


def _file_name(ref: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", ref.lower()).strip("-")


def _entry_json(entry: Entry) -> dict[str, Any]:
    match entry:
        case File():
            data = base64.b64encode(entry.data).decode()
            return {"kind": "file", "path": entry.path, "mode": entry.mode, "data": data}
        case Symlink():
            return {"kind": "symlink", "path": entry.path, "target": entry.target}
        case Directory():
            return {"kind": "directory", "path": entry.path, "mode": entry.mode}
        case Take():
            return {
                "kind": "take",
                "path": entry.path,
                "artifact": entry.artifact.name,
                "member": entry.member,
                "mode": entry.mode,
            }
