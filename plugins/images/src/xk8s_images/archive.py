"""Content of OCI layouts and of archives of images, from their few small files.

``oci-archive`` is a tar of an OCI layout; ``docker-archive`` is what `docker save` and
`podman save` write (https://github.com/moby/docker-image-spec). Either may be compressed.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from attrs import frozen
from xk8s.errors import UsageError
from xk8s.files import UnsafeArchive, fingerprints, open_tar
from xk8s.image_reference import split_ref

from xk8s_images.layout import CONTAINERD_NAME, REF_NAME, is_ours
from xk8s_images.reference import full_ref

_SMALL = 4 << 20
"""Manifests, indexes and configurations are far smaller; layers are not read."""
_SMALL_ALL = 64 << 20
"""Bytes of all of them that are held in memory at a time."""

DAMAGED = (tarfile.TarError, UnsafeArchive, EOFError, zlib.error, lzma.LZMAError)
"""Exceptions that reading an archive may raise, besides OSError."""

Read = Callable[[str], bytes]
"""Function that returns the content of a small file by its name; KeyError if it does not exist."""


@frozen(kw_only=True)
class ArchivedImage:
    """An image for linux/amd64. ``names`` are full references recorded for it, ``tags`` words that
    are just a tag (what skopeo records for oci:DIR:1.0). ``layers`` and ``config`` are names of
    files, in a docker archive only; ``descriptor`` is that of an OCI manifest.
    """

    digest: str
    names: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    config: str = ""
    layers: tuple[str, ...] = ()
    descriptor: Mapping[str, Any] | None = None


def read_images(transport: str, path: Path) -> list[ArchivedImage]:
    """Return the images of a layout or archive; of a file it is remembered until the file changes.
    `UsageError` when it is none.
    """
    where = f"{transport}:{path}"
    try:
        what = "directory" if transport == "oci" else "file"
        if not path.exists() or path.is_dir() is not (transport == "oci"):
            raise UsageError(
                f"it is not a {what}" if path.exists() else f"the {what} does not exist",
                where=where,
                hint="relative paths start where the command runs",
            )
        if transport == "oci":
            found = parse(transport, directory_reader(path))
        else:
            text = fingerprints().about(
                [path], lambda archive: _read_images(transport, archive), transport
            )
            found = [_structure(image) for image in json.loads(text[path])]
    except (OSError, *DAMAGED) as error:
        raise UsageError(f"it cannot be read: {error}", where=where) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"it is not an {_KINDS[transport]}: {_said(error)}",
            where=where,
            hint="oci: takes a directory, oci-archive: a tar of one, docker-archive: what "
            "docker save writes",
        ) from error
    if not found:
        raise UsageError("it has no image for linux/amd64", where=where)
    return found


_KINDS = {
    "oci": "OCI layout",
    "oci-archive": "archive of an OCI layout",
    "docker-archive": "archive as docker save writes it",
}


def parse(transport: str, read: Read) -> list[ArchivedImage]:
    """Return the images; KeyError, ValueError and so on if it is malformed."""
    return list(_docker(read) if transport == "docker-archive" else _oci(read))


def directory_reader(root: Path) -> Read:
    """Return a function that reads the files of a directory."""

    def read(name: str) -> bytes:
        return find(root, name).read_bytes()

    return read


def find(root: Path, name: str) -> Path:
    """Return the file of that name below ``root``; KeyError if it does not exist, or if the name
    leads out. A link in the directory may: blobs of a layout can be kept elsewhere, and an archive
    with such a link is not unpacked.
    """
    relative = PurePosixPath(name)
    path = root / relative
    if relative.is_absolute() or ".." in relative.parts or not path.is_file():
        raise KeyError(name)
    return path.resolve()


def _read_images(transport: str, path: Path) -> str:
    files: dict[str, bytes] = {}
    size = 0
    with open_tar(path) as tar:
        for member in tar:
            if member.isreg() and member.size <= _SMALL:
                stream = tar.extractfile(member)
                assert stream is not None
                data = stream.read()
                if data.lstrip()[:1] not in (b"{", b"["):
                    continue  # a small layer
                size += len(data)
                if size > _SMALL_ALL:
                    raise UnsafeArchive(
                        f"{path.name}: more than {_SMALL_ALL >> 20} MiB of JSON, the limit, at "
                        f"{member.name!r}"
                    )
                files[member.name.removeprefix("./")] = data
    found = parse(transport, files.__getitem__)
    return json.dumps([_unstructure(image) for image in found])


def _unstructure(found: ArchivedImage) -> dict[str, Any]:
    return {"digest": found.digest, "names": found.names, "tags": found.tags}


def _structure(data: Mapping[str, Any]) -> ArchivedImage:
    return ArchivedImage(
        digest=data["digest"], names=tuple(data["names"]), tags=tuple(data["tags"])
    )


# --- OCI --------------------------------------------------------------------------------


def _oci(read: Read) -> Iterator[ArchivedImage]:
    for descriptor in json.loads(read("index.json"))["manifests"]:
        notes = descriptor.get("annotations") or {}
        words = [notes[key] for key in (CONTAINERD_NAME, REF_NAME) if notes.get(key)]
        names = [word for word in words if _is_name(word)]
        ours = _ours(descriptor, read)
        if ours is not None:
            yield ArchivedImage(
                digest=ours["digest"],
                names=tuple(dict.fromkeys(full_ref(name) for name in names)),
                # A tag beside a name is the tag of that name.
                tags=() if names else tuple(words),
                descriptor=ours,
            )


def _ours(descriptor: Mapping[str, Any], read: Read) -> Mapping[str, Any] | None:
    """Return the manifest for linux/amd64 to which a descriptor leads."""
    if not is_ours(descriptor.get("platform")):
        return None
    body = read(blob_name(descriptor["digest"]))
    if f"sha256:{hashlib.sha256(body).hexdigest()}" != descriptor["digest"]:
        raise ValueError(f"{descriptor['digest']} is damaged")
    document = json.loads(body)
    if "manifests" in document:
        found = (_ours(manifest, read) for manifest in document["manifests"])
        return next((manifest for manifest in found if manifest is not None), None)
    config = json.loads(read(blob_name(document["config"]["digest"])))
    return descriptor if is_ours(config) else None


def blob_name(digest: str) -> str:
    """Return where a layout has a blob; ValueError for an unknown kind of digest."""
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise ValueError(f"unknown digest {digest!r}")
    return f"blobs/sha256/{value}"


def _is_name(word: str) -> bool:
    """Return whether a recorded word is a reference rather than just a tag."""
    if "/" not in word and ":" not in word:
        return False
    try:
        split_ref(full_ref(word))
    except UsageError:
        return False
    return True


# --- docker -----------------------------------------------------------------------------


def _docker(read: Read) -> Iterator[ArchivedImage]:
    for entry in json.loads(read("manifest.json")):
        config = read(entry["Config"])
        if is_ours(json.loads(config)):
            yield ArchivedImage(
                digest=f"sha256:{hashlib.sha256(config).hexdigest()}",
                names=tuple(dict.fromkeys(full_ref(tag) for tag in entry.get("RepoTags") or ())),
                config=entry["Config"],
                layers=tuple(_words(entry["Layers"])),
            )


def _words(value: Sequence[str]) -> Iterator[str]:
    for word in value:
        if not isinstance(word, str):
            raise TypeError(f"{word!r} is not a file name")
        yield word


def _said(error: Exception) -> str:
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
