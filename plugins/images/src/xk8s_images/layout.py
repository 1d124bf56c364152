"""OCI image layouts in pure Python: the same files give the same bytes.

One uncompressed tar layer (compressing costs seconds here and again in the node, and the result
lives in a file system image anyway), owner root, time 0, sorted names. Formats: OCI image
specification 1.1, https://github.com/opencontainers/image-spec.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from attrs import frozen

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
"""What containerd reads instead of the annotation above, which it takes for a bare tag."""


@frozen(kw_only=True)
class Member:
    """One thing in an image's root file system: ``path`` is relative, without a leading slash.
    Exactly one of ``data`` (a file) and ``target`` (a symbolic link) is set, or none
    (a directory).
    """

    path: str
    mode: int = 0o755
    data: bytes | None = None
    target: str | None = None


def relative(path: str) -> str:
    """An absolute guest path as a tar member's name. ValueError for one that leaves the root."""
    parts = PurePosixPath(path).parts
    if not path.startswith("/") or ".." in parts or len(parts) < 2:
        raise ValueError(f"{path!r} is no absolute path below /")
    return "/".join(parts[1:])


def members_of(tree: Path, path: str, mode: int | None) -> Iterable[Member]:
    """A file or a directory's tree on the host as members at ``path`` (relative)."""
    if tree.is_symlink():
        yield Member(path=path, target=str(tree.readlink()))
    elif tree.is_dir():
        yield Member(path=path, mode=tree.stat().st_mode & 0o7777)
        for child in sorted(tree.iterdir()):
            yield from members_of(child, f"{path}/{child.name}".lstrip("/"), mode)
    else:
        bits = tree.stat().st_mode & 0o7777 if mode is None else mode
        yield Member(path=path, mode=bits, data=tree.read_bytes())


def layer_tar(members: Iterable[Member]) -> bytes:
    """The tar of one layer. Directories that are only implied are added with mode 0755.
    ValueError when one path is given twice (directories may be).
    """
    found: dict[str, Member] = {}
    for member in members:
        if member.path in ("", "."):
            continue
        other = found.get(member.path)
        if other is not None and not (_is_directory(other) and _is_directory(member)):
            raise ValueError(f"/{member.path} is in the image twice")
        found[member.path] = member
    for path in list(found):
        for parent in PurePosixPath(path).parents:
            if str(parent) != ".":
                above = found.setdefault(str(parent), Member(path=str(parent)))
                if not _is_directory(above):
                    raise ValueError(f"/{parent} is a file and a directory in the image")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(found):
            _add(tar, found[path])
    return buffer.getvalue()


def _is_directory(member: Member) -> bool:
    return member.data is None and member.target is None


def _add(tar: tarfile.TarFile, member: Member) -> None:
    info = tarfile.TarInfo(member.path)
    info.mode = member.mode
    if member.target is not None:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, member.target, 0o777
        tar.addfile(info)
    elif member.data is not None:
        info.size = len(member.data)
        tar.addfile(info, io.BytesIO(member.data))
    else:
        info.type = tarfile.DIRTYPE
        tar.addfile(info)


def write_layout(
    out: Path,
    *,
    ref: str,
    layer: bytes,
    entrypoint: Sequence[str] = (),
    cmd: Sequence[str] = (),
    env: Sequence[str] = (),
    architecture: str = "amd64",
) -> str:
    """Write an image of one layer as an OCI layout into the directory ``out`` (made here).

    ``ref`` is the full reference that the index names. Returns the digest of the image's
    config, ``sha256:<hex>``: the image's ID.
    """
    blobs = out / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    layer_blob = _blob(blobs, LAYER_TYPE, layer)
    config: dict[str, Any] = {
        "architecture": architecture,
        "config": _drop_empty({"Cmd": list(cmd), "Entrypoint": list(entrypoint), "Env": list(env)}),
        "os": "linux",
        # The layer is not compressed: its diff ID is its digest.
        "rootfs": {"diff_ids": [layer_blob["digest"]], "type": "layers"},
    }
    config_blob = _blob(blobs, CONFIG_TYPE, _json(config))
    manifest = {
        "config": config_blob,
        "layers": [layer_blob],
        "mediaType": MANIFEST_TYPE,
        "schemaVersion": 2,
    }
    manifest_blob = _blob(blobs, MANIFEST_TYPE, _json(manifest))
    write_index(out, manifest_blob, ref)
    return str(config_blob["digest"])


def write_index(out: Path, manifest: Mapping[str, Any], ref: str) -> None:
    """Write index.json and oci-layout that name one manifest (a descriptor) by ``ref``."""
    named = {**manifest, "annotations": {CONTAINERD_NAME: ref, REF_NAME: ref}}
    index = {"manifests": [named], "mediaType": INDEX_TYPE, "schemaVersion": 2}
    (out / "index.json").write_bytes(_json(index))
    (out / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))


def layout_tar(layout: Path, out: Path) -> None:
    """Pack a layout directory into a tar archive, as `ctr images import` takes it."""
    with tarfile.open(out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(layout.rglob("*")):
            info = tarfile.TarInfo(path.relative_to(layout).as_posix())
            if path.is_dir():
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            else:
                info.size = path.stat().st_size
                with path.open("rb") as stream:
                    tar.addfile(info, stream)


def config_digest(layout: Path) -> str:
    """The image ID of a layout whose index names one manifest for this architecture.
    ValueError when it names none.
    """
    blobs = layout / "blobs"
    document = json.loads((layout / "index.json").read_bytes())
    while "manifests" in document:
        found = [entry for entry in document["manifests"] if _is_ours(entry.get("platform"))]
        if not found:
            raise ValueError(f"{layout} has no image for linux/amd64")
        document = json.loads((blobs / found[0]["digest"].replace(":", "/")).read_bytes())
    return str(document["config"]["digest"])


def _is_ours(platform: Mapping[str, str] | None) -> bool:
    if not platform:
        return True
    return platform.get("os") == "linux" and platform.get("architecture") == "amd64"


def _blob(blobs: Path, media_type: str, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return {"digest": f"sha256:{digest}", "mediaType": media_type, "size": len(data)}


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _drop_empty(values: dict[str, list[str]]) -> dict[str, list[str]]:
    return {key: value for key, value in values.items() if value}
