"""Settings of the overlay ``images``, and the images they select."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from attrs import frozen
from xk8s.errors import UsageError
from xk8s.image_reference import split_ref
from xk8s.image_tags import pinned
from xk8s.overlay import setting
from xk8s.sources import OciImage

from xk8s_images import directory, local_images
from xk8s_images.image import Image
from xk8s_images.reference import cluster_name, full_ref


def pin_refs(refs: Sequence[str]) -> tuple[str, ...]:
    """Return references as `images_of` takes them: full, and with a digest if it is known."""
    found: list[str] = []
    for ref in refs:
        if local_images.is_local(ref):
            found += [str(image) for image in local_images.pin(ref)]
        else:
            found.append(pin_registry(ref))
    return tuple(dict.fromkeys(found))


def pin_registry(ref: str) -> str:
    """Return a registry's reference, with the digest of a tag that was looked up again."""
    full = full_ref(ref.removeprefix("docker://"))
    split_ref(full)  # or say what is wrong with it
    return pinned(full)


def pin_build(build: Mapping[str, str]) -> dict[str, str]:
    """Return full references with the absolute directory ``@sha256:`` and its content."""
    found: dict[str, str] = {}
    for ref, text in build.items():
        name = full_ref(ref)
        split_ref(name)
        if name in found:
            raise UsageError(f"two directories are given for the image {name}")
        path = Path(text).expanduser().absolute()
        found[name] = f"{path}@{directory.identity(path)}"
    return found


@frozen(kw_only=True)
class ImagesSettings:
    """Settings of the overlay ``images``. Both are kept pinned: see `xk8s_images.local_images`."""

    refs: tuple[str, ...] = setting(
        (),
        "images for the nodes: references of a registry, oci:DIR[:REF], "
        "oci-archive:FILE[:REF], docker-archive:FILE[:REF], docker-daemon:REF or "
        "containers-storage:REF",
        pin=pin_refs,
    )
    build: dict[str, str] = setting(
        {},
        "images to build: REF=DIR, whose files are the image's root file system; DIR/image.json "
        "may say entrypoint, cmd, env, workdir and user",
        pin=pin_build,
    )


def images_of(settings: ImagesSettings) -> Iterator[Image]:
    """Return the images that the settings select."""
    for ref in settings.refs:
        if local_images.is_local(ref):
            image = local_images.parse(ref)
            yield Image(ref=image.ref, source=image.recipe)
        else:
            full = full_ref(ref)
            yield Image(ref=cluster_name(full), source=OciImage(ref=full))
    for ref, text in settings.build.items():
        place, _, digest = text.rpartition("@")
        built = local_images.LocalImage(transport="directory", place=place, ref=ref, digest=digest)
        yield Image(ref=ref, source=built.recipe)
