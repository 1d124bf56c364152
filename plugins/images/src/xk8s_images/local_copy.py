"""Recipe: an OCI layout of an image on this machine."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from xk8s.errors import ArtifactError, BuildError, HostError
from xk8s.files import ZSTD, file_digest, unpack

from xk8s_images import daemon, directory
from xk8s_images.archive import DAMAGED, ArchivedImage, blob_name, directory_reader, find, parse
from xk8s_images.layout import (
    LAYER_TYPE,
    config_of,
    manifest_of,
    write_index,
    write_layer,
    write_layout,
    write_manifest,
)
from xk8s_images.stores import NAMESPACE_HINT, namespace_argv

if TYPE_CHECKING:
    from xk8s.recipe import RecipeContext

MEMBER = "oci"
_GZIP = b"\x1f\x8b"


def copy_image(recipe: RecipeContext) -> None:
    """Write the layout. `ArtifactError` if the image is gone, damaged, or a different one
    by now.
    """
    transport = recipe.params["transport"]
    place = recipe.places["place"].removeprefix(f"{transport}:")
    recipe.progress.item(recipe.name, f"taking {recipe.places['place']}")
    try:
        _TAKERS[transport](recipe, place)
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError, *DAMAGED) as error:
        raise ArtifactError(
            f"the image is damaged: {error}",
            where=recipe.places["place"],
            hint="write the archive again",
        ) from error


def _from_layout(recipe: RecipeContext, place: str) -> None:
    _take_oci(recipe, Path(place), keep=True)


def _from_archive(recipe: RecipeContext, place: str) -> None:
    unpacked = recipe.work / "unpacked"
    _unpack(recipe, Path(place), unpacked)
    if recipe.params["transport"] == "docker-archive":
        _take_docker(recipe, unpacked, _chosen(recipe, unpacked))
    else:
        _take_oci(recipe, unpacked, keep=False)


def _from_daemon(recipe: RecipeContext, place: str) -> None:
    archive = recipe.work / "saved.tar"

    def told(done: int) -> None:
        recipe.check()
        recipe.progress.item(recipe.name, f"docker saves {place}", done=done)

    daemon.save(recipe.params["digest"], archive, told)
    unpacked = recipe.work / "unpacked"
    _unpack(recipe, archive, unpacked)
    archive.unlink()
    # Asked for by its ID, it is the only one; the ID is not always that of its configuration.
    found = parse("docker-archive", directory_reader(unpacked))
    if not found:
        raise ArtifactError(
            f"docker's image {place} is not for linux/amd64",
            where=recipe.places["place"],
            hint="docker build --platform linux/amd64 …",
        )
    _take_docker(recipe, unpacked, found[0])


def _from_storage(recipe: RecipeContext, place: str) -> None:
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        raise HostError(
            "the program skopeo is not installed",
            where="PATH",
            hint="apt-get install skopeo: it reads the stores of podman and buildah",
        )
    store = place[: place.index("]") + 1] if place.startswith("[") else ""
    identity = recipe.params["digest"].removeprefix("sha256:")
    out = recipe.out / MEMBER
    # For root in a mount namespace, since skopeo leaves the store mounted on itself; others get
    # into one of their own by skopeo itself.
    argv = namespace_argv() if os.geteuid() == 0 else []
    # Uncompressed: it is unpacked again soon, and the same image gives the same bytes.
    argv += [skopeo, "--insecure-policy", "copy", "--quiet"]
    argv += ["--dest-oci-accept-uncompressed-layers"]
    argv += [f"containers-storage:{store}@{identity}", f"oci:{out}"]
    try:
        recipe.run(argv, env={"TMPDIR": str(recipe.work)})
    except BuildError as error:
        raise ArtifactError(
            "the image could not be copied out of the local store",
            where=recipe.places["place"],
            hint=NAMESPACE_HINT if "unshare:" in error.log else "`podman images` lists them",
            log=error.log,
        ) from error
    config = config_of(out)
    if (config.get("os"), config.get("architecture")) != ("linux", "amd64"):
        raise ArtifactError(
            f"{place} is for {config.get('os')}/{config.get('architecture')}, not linux/amd64",
            where=recipe.places["place"],
        )
    descriptor = manifest_of(out)
    descriptor.pop("annotations", None)
    write_index(out, descriptor, recipe.params["ref"])


def _from_directory(recipe: RecipeContext, place: str) -> None:
    root = Path(place)

    def check() -> None:
        if not root.is_dir() or directory.identity(root) != recipe.params["digest"]:
            raise _changed(recipe)

    check()
    layer = recipe.work / "layer.tar"
    with layer.open("wb") as stream:
        write_layer(directory.members(root), stream, check=recipe.check)
    config = directory.read_config(root)
    check()
    write_layout(
        recipe.out / MEMBER,
        ref=recipe.params["ref"],
        layer=layer,
        entrypoint=config.entrypoint,
        cmd=config.cmd,
        env=config.env,
        workdir=config.workdir,
        user=config.user,
    )


_TAKERS = {
    "oci": _from_layout,
    "oci-archive": _from_archive,
    "docker-archive": _from_archive,
    "docker-daemon": _from_daemon,
    "containers-storage": _from_storage,
    "directory": _from_directory,
}


# --- parts ------------------------------------------------------------------------------


def _unpack(recipe: RecipeContext, archive: Path, target: Path) -> None:
    if not archive.is_file():
        raise _gone(recipe)
    recipe.progress.item(recipe.name, f"unpacking {archive.name}")
    unpack(archive, target, check=recipe.check)


def _chosen(recipe: RecipeContext, root: Path) -> ArchivedImage:
    """Return the image with the digest with which the plan was made."""
    transport = recipe.params["transport"]
    for image in parse(transport, directory_reader(root)):
        if image.digest == recipe.params["digest"]:
            return image
    raise _changed(recipe)


def _take_oci(recipe: RecipeContext, root: Path, *, keep: bool) -> None:
    """Copy (``keep``) or link what the manifest needs, each blob compared with its digest."""
    if not root.is_dir():
        raise _gone(recipe)
    descriptor = _chosen(recipe, root).descriptor
    assert descriptor is not None
    out = recipe.out / MEMBER
    (out / "blobs" / "sha256").mkdir(parents=True)
    manifest = json.loads(find(root, blob_name(descriptor["digest"])).read_bytes())
    wanted = [descriptor["digest"]]
    wanted += [descriptor["digest"] for descriptor in (manifest["config"], *manifest["layers"])]
    for digest in dict.fromkeys(wanted):
        recipe.check()
        source, target = find(root, blob_name(digest)), out / blob_name(digest)
        (shutil.copyfile if keep else os.link)(source, target)
        target.chmod(0o644)
        if f"sha256:{file_digest(target)}" != digest:
            raise ValueError(f"blob {digest} is not what its name says")
    plain = {key: value for key, value in descriptor.items() if key != "annotations"}
    write_index(out, plain, recipe.params["ref"])


def _take_docker(recipe: RecipeContext, root: Path, found: ArchivedImage) -> None:
    """Make a layout of an unpacked docker archive; the image keeps its ID."""
    blobs = recipe.out / MEMBER / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    config = find(root, found.config).read_bytes()
    contents = json.loads(config)["rootfs"]["diff_ids"]
    if len(contents) != len(found.layers):
        raise ValueError(f"{len(contents)} layers are named, but {len(found.layers)} exist")
    layers = []
    for name, content in zip(found.layers, contents, strict=True):
        recipe.check()
        path = find(root, name)
        kind = _compare(path, content)
        digest = content.removeprefix("sha256:") if kind == LAYER_TYPE else file_digest(path)
        target = blobs / digest
        if not target.exists():  # the empty layer is often there more than once
            target.hardlink_to(path)
            target.chmod(0o644)
        layers.append(
            {"digest": f"sha256:{digest}", "mediaType": kind, "size": target.stat().st_size}
        )
    write_manifest(recipe.out / MEMBER, config, layers, ref=recipe.params["ref"])


def _compare(path: Path, content: str) -> str:
    """Return the media type of a layer, whose content must be what the configuration says."""
    with path.open("rb") as stream:
        start = stream.read(4)
    if start == ZSTD:
        return f"{LAYER_TYPE}+zstd"  # the node's runtime compares it when it unpacks
    packed = start.startswith(_GZIP)
    total = hashlib.sha256()
    with gzip.open(path) if packed else path.open("rb") as plain:
        while piece := plain.read(1 << 20):
            total.update(piece)
    if f"sha256:{total.hexdigest()}" != content:
        raise ValueError(f"layer {path.name} is not {content}")
    return f"{LAYER_TYPE}+gzip" if packed else LAYER_TYPE


def _gone(recipe: RecipeContext) -> ArtifactError:
    return ArtifactError(
        "the image no longer exists, and the cache does not have it",
        where=recipe.places["place"],
        hint="make it again, or leave it out of images.refs",
    )


def _changed(recipe: RecipeContext) -> ArtifactError:
    return ArtifactError(
        "the image is not the one that was there when the plan was made",
        where=recipe.places["place"],
        hint="run the command again when whatever writes it has finished",
    )
