"""OCI image layouts in pure Python: the same files give the same bytes.

One uncompressed tar layer (compressing costs seconds here and again in the node, and the result
lives in a file system image anyway), owner root, time 0, sorted names. Formats: OCI image
specification 1.1, https://github.com/opencontainers/image-spec.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from attrs import frozen
from xk8s.files import file_digest

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
"""The annotation that containerd reads instead of the one above, which it takes for a bare tag."""


@frozen(kw_only=True)
class Member:
    """An entry of an image's root file system: ``path`` is relative, without a leading slash.
    Exactly one of ``data`` (a file), ``file`` (a file with its content) and ``target`` (a symbolic
    link) is set, or none (a directory).
    """

    path: str
    mode: int = 0o755
    data: bytes | None = None
    file: Path | None = None
    target: str | None = None


def relative(path: str) -> str:
    """Return an absolute guest path as a tar member's name. ValueError for one that leaves the
    root.
    """
    parts = PurePosixPath(path).parts
    if not path.startswith("/") or ".." in parts or len(parts) < 2:
        raise ValueError(f"{path!r} is not an absolute path below /")
    return "/".join(parts[1:])


def members_of(tree: Path, path: str, mode: int | None) -> Iterable[Member]:
    """Return a file or a directory's tree on the host as members at ``path`` (relative)."""
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
    """Return the tar of one layer, as `write_layer` writes it."""
    buffer = io.BytesIO()
    write_layer(members, buffer)
    return buffer.getvalue()


def write_layer(
    members: Iterable[Member], out: BinaryIO, *, check: Callable[[], None] = lambda: None
) -> None:
    """Write the tar of one layer. Directories that are only implied are added with mode 0755.
    ValueError when one path is given twice (directories may be). ``check`` is called between
    members and may raise to stop.
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
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(found):
            check()
            _add(tar, found[path])


def _is_directory(member: Member) -> bool:
    return member.data is None and member.file is None and member.target is None


def _add(tar: tarfile.TarFile, member: Member) -> None:
    info = tarfile.TarInfo(member.path)
    info.mode = member.mode
    if member.target is not None:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, member.target, 0o777
        tar.addfile(info)
    elif member.data is not None:
        info.size = len(member.data)
        tar.addfile(info, io.BytesIO(member.data))
    elif member.file is not None:
        with member.file.open("rb") as stream:
            info.size = os.fstat(stream.fileno()).st_size
            tar.addfile(info, stream)
    else:
        info.type = tarfile.DIRTYPE
        tar.addfile(info)


def write_layout(
    out: Path,
    *,
    ref: str,
    layer: bytes | Path,
    entrypoint: Sequence[str] = (),
    cmd: Sequence[str] = (),
    env: Sequence[str] = (),
    workdir: str = "",
    user: str = "",
    architecture: str = "amd64",
) -> str:
    """Write an image of one layer as an OCI layout into the directory ``out`` (made here); a
    layer that is a file is moved there.

    ``ref`` is the full reference that the index names. Returns the digest of the image's
    config, ``sha256:<hex>``: the image's ID.
    """
    (out / "blobs" / "sha256").mkdir(parents=True)
    layer_blob = _blob(out, LAYER_TYPE, layer)
    run: dict[str, Any] = {
        "Cmd": list(cmd),
        "Entrypoint": list(entrypoint),
        "Env": list(env),
        "User": user,
        "WorkingDir": workdir,
    }
    config = {
        "architecture": architecture,
        "config": {key: value for key, value in run.items() if value},
        "os": "linux",
        # The layer is not compressed: its diff ID is its digest.
        "rootfs": {"diff_ids": [layer_blob["digest"]], "type": "layers"},
    }
    return write_manifest(out, _json(config), [layer_blob], ref=ref)


def write_manifest(
    out: Path, config: bytes, layers: Sequence[Mapping[str, Any]], *, ref: str
) -> str:
    """Write what makes a layout of an image whose layers (their descriptors) are in
    ``out``/blobs already. Returns the digest of its config.
    """
    config_blob = _blob(out, CONFIG_TYPE, config)
    manifest = {
        "config": config_blob,
        "layers": list(layers),
        "mediaType": MANIFEST_TYPE,
        "schemaVersion": 2,
    }
    write_index(out, _blob(out, MANIFEST_TYPE, _json(manifest)), ref)
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
    """Return the image ID of a layout whose index names one manifest for this architecture.
    ValueError if it names none.
    """
    return str(_document(layout, manifest_of(layout))["config"]["digest"])


def config_of(layout: Path) -> dict[str, Any]:
    """Return the image's configuration; ValueError as above."""
    return _document(layout, _document(layout, manifest_of(layout))["config"])


def manifest_of(layout: Path) -> dict[str, Any]:
    """Return the descriptor of a layout's manifest for this architecture, the first one if there
    are several. ValueError if there is none.
    """
    document = json.loads((layout / "index.json").read_bytes())
    while True:
        found = [entry for entry in document["manifests"] if is_ours(entry.get("platform"))]
        if not found:
            raise ValueError(f"{layout} has no image for linux/amd64")
        document = _document(layout, found[0])
        if "manifests" not in document:
            return dict(found[0])


def blob_path(layout: Path, digest: str) -> Path:
    """Return where a layout has the blob with that digest."""
    return layout / "blobs" / digest.replace(":", "/")


def _document(layout: Path, descriptor: Mapping[str, Any]) -> dict[str, Any]:
    return dict(json.loads(blob_path(layout, descriptor["digest"]).read_bytes()))


def is_ours(platform: Mapping[str, str] | None) -> bool:
    """Return whether a platform, or an image's configuration, is linux/amd64 or says nothing about
    it.
    """
    found = platform or {}
    return found.get("os", "linux") == "linux" and found.get("architecture", "amd64") == "amd64"


def _blob(out: Path, media_type: str, data: bytes | Path) -> dict[str, Any]:
    """Move a blob to its place and return its descriptor."""
    if isinstance(data, Path):
        digest, size = file_digest(data), data.stat().st_size
        data.rename(out / "blobs" / "sha256" / digest)
        (out / "blobs" / "sha256" / digest).chmod(0o644)
    else:
        digest, size = hashlib.sha256(data).hexdigest(), len(data)
        (out / "blobs" / "sha256" / digest).write_bytes(data)
    return {"digest": f"sha256:{digest}", "mediaType": media_type, "size": size}


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
