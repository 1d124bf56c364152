"""Images that this machine has: the words for them, and what they are pinned to.

The words are skopeo's: ``oci:DIR[:REF]``, ``oci-archive:FILE[:REF]``,
``docker-archive:FILE[:REF]``, ``docker-daemon:REF``, ``containers-storage:REF``. Pinned, each has
an absolute path, the image's full reference, and ``@sha256:`` with what tells this content from
any other, so that a plan knows that an image has changed and an image that is in the cache is not
looked for again:

    oci, oci-archive      the digest of the manifest
    docker-archive        the digest of the image's configuration, which has those of the layers
    docker-daemon, containers-storage    the image's ID in that store
"""

from __future__ import annotations

import re
from pathlib import Path

from attrs import frozen
from xk8s.errors import UsageError
from xk8s.image_reference import DIGEST, split_ref
from xk8s.sources import Recipe

from xk8s_images import containers
from xk8s_images.archive import ArchivedImage, read_images
from xk8s_images.reference import cluster_name, full_ref

PATHS = ("oci", "oci-archive", "docker-archive")
"""Transports that name a file or directory."""

TRANSPORTS = (*PATHS, "docker-daemon", "containers-storage")

_PINNED = re.compile(rf"(.+)@({DIGEST})", re.DOTALL)


@frozen(kw_only=True)
class LocalImage:
    """A pinned one. ``place`` is the path, or the store and name; ``ref`` the full reference
    under which the cluster has it.
    """

    transport: str
    place: str
    ref: str
    digest: str

    def __str__(self) -> str:
        name = f"{self.place}:{self.ref}" if self.transport in PATHS else self.place
        return f"{self.transport}:{name}@{self.digest}"

    @property
    def recipe(self) -> Recipe:
        """What makes an OCI layout of it; the path and the like do not matter to the result."""
        return Recipe(
            function="xk8s_images.local_copy:copy_image",
            params={"transport": self.transport, "digest": self.digest, "ref": self.ref},
            places={"place": f"{self.transport}:{self.place}"},
        )


def is_local(text: str) -> bool:
    """Return whether the text begins with one of the transports."""
    return text.partition(":")[0] in TRANSPORTS and ":" in text


def parse(text: str) -> LocalImage:
    """A pinned text. ValueError for one that is not pinned."""
    match = _PINNED.fullmatch(text)
    transport, _, rest = text.partition(":")
    if match is None or transport not in TRANSPORTS:
        raise ValueError(f"{text!r} is not pinned")
    place = rest.removesuffix(f"@{match[2]}")
    if transport in PATHS:
        place, _, name = place.partition(":")
    else:
        name = containers.split(place)[1]
    return LocalImage(
        transport=transport, place=place, ref=cluster_name(full_ref(name)), digest=match[2]
    )


def pin(text: str) -> tuple[LocalImage, ...]:
    """Return what the words mean now: one image, or all of an archive when no REF is given.

    Reads files, and asks docker's socket; a text that has a digest is taken at its word.
    `UsageError` when there is no such image or it has no name; `HostError` when a store cannot
    be reached.
    """
    transport, _, rest = text.partition(":")
    if pinned := _PINNED.fullmatch(rest):
        if transport in PATHS and ":" not in pinned[1]:
            raise UsageError(
                f"{text!r} says which content, but not the image's name",
                hint=f"write {transport}:{pinned[1]}:NAME:TAG@{pinned[2]}",
            )
        rest = pinned[1]
    if transport in PATHS:
        path, _, ref = rest.partition(":")
        path = str(Path(path).expanduser().absolute())
        if pinned:
            return (parse(f"{transport}:{path}:{_full(ref)}@{pinned[2]}"),)
        found = read_images(transport, Path(path))
        return tuple(
            LocalImage(transport=transport, place=path, ref=name, digest=digest)
            for name, digest in choose(found, ref, f"{transport}:{path}")
        )
    if transport == "docker-daemon":
        from xk8s_images.daemon import image_id  # HTTP takes a while to import

        name = _full(rest)
        identity = pinned[2] if pinned else image_id(name)
        return (LocalImage(transport=transport, place=name, ref=name, digest=identity),)
    store, name = containers.split(rest)
    if pinned:
        return (parse(f"{transport}:{store}{_full(name)}@{pinned[2]}"),)
    name, identity = containers.find(store, name)
    return (LocalImage(transport=transport, place=f"{store}{name}", ref=name, digest=identity),)


def choose(found: list[ArchivedImage], ref: str, where: str) -> list[tuple[str, str]]:
    """(reference, digest) of those images of an archive that are meant.

    ``ref`` chooses the one that is recorded by that name, or by its tag alone; an only image
    gets it as its name. Without ``ref`` all are meant, by what is recorded.
    """
    if not ref:
        nameless = [image for image in found if not image.names]
        if nameless:
            tags = sorted({tag for image in nameless for tag in image.tags})
            only = f" (only the tag {', '.join(tags)})" if tags else ""
            raise UsageError(
                f"no name is recorded{only} for {'the' if len(found) == 1 else 'an'} image in it",
                where=where,
                hint=f"say what the cluster is to call it: {where}:NAME:TAG",
            )
        return [(name, image.digest) for image in found for name in image.names]
    if any(ref in image.tags for image in found):
        raise UsageError(
            f"{ref!r} is a tag there, and no name",
            where=where,
            hint=f"say what the cluster is to call the image: {where}:NAME:{ref}",
        )
    name = _full(ref)
    tag = split_ref(name)[1]
    for meant in (
        [image for image in found if name in image.names],
        [image for image in found if tag in image.tags],
        found,
    ):
        if len({image.digest for image in meant}) == 1:
            return [(name, meant[0].digest)]
    known = sorted({word for image in found for word in (*image.names, *image.tags)})
    raise UsageError(
        f"there is no image {name} in it",
        where=where,
        hint=f"it has {', '.join(known)}" if known else "none of its images has a name",
    )


def _full(ref: str) -> str:
    name = full_ref(ref)
    split_ref(name)  # or say what is wrong with it
    return name
