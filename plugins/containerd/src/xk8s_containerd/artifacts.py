"""Sources of containerd and the OCI runtime, and the store with the images."""

from __future__ import annotations

from importlib.resources import files

from xk8s.context import Context
from xk8s.sources import Artifact, DebPackage, GoModule, OwnDirectory, Recipe, Release, Source
from xk8s_images import PAUSE_REF, cri, image_artifacts, image_ref

from xk8s_containerd.settings import DEFAULT_VERSION, MEMBERS, ContainerdSettings

_MODULE = "github.com/containerd/containerd/v2"


def containerd_artifact(settings: ContainerdSettings) -> Artifact:
    """Return your own directory for what it contains, then the release, then a build of the Go
    module (the default version only: others have no pinned go.sum).
    """
    version = settings.version.removeprefix("v")
    url = (
        f"https://github.com/containerd/containerd/releases/download/v{version}/"
        f"containerd-{version}-linux-amd64.tar.gz"
    )
    release = Release(
        url=url,
        checksum_url=f"{url}.sha256sum",
        members={member: f"bin/{member}" for member in MEMBERS},
    )
    built = [_module(version)] if version == DEFAULT_VERSION else []
    return Artifact(
        name="containerd",
        version=f"v{version}",
        members=MEMBERS,
        sources=(*_own(settings.dir), release, *built),
    )


def runtime_artifact(settings: ContainerdSettings) -> Artifact:
    """Return crun or runc: your own, or Debian's."""
    name = settings.runtime
    path = {"crun": "/usr/bin/crun", "runc": "/usr/sbin/runc"}[name]
    return Artifact(
        name=name,
        version="trixie",
        members=(name,),
        sources=(*_own(settings.runtime_dir), DebPackage(members={name: (name, path)})),
    )


def store_artifact(ctx: Context) -> Artifact:
    """Return the EROFS image with containerd's databases, blobs and unpacked snapshots of all
    images.
    """
    settings = ctx.settings(ContainerdSettings)
    images = image_artifacts(ctx)
    containerd = containerd_artifact(settings)
    return Artifact(
        name="containerd-store",
        version=containerd.version,
        members=(cri.STORE_MEMBER,),
        sources=(
            Recipe(
                function="xk8s_containerd.store:bake",
                params={
                    "images": {image.name: image_ref(image) for image in images},
                    "pinned": [PAUSE_REF],
                    "layer": cri.store_layer("containerd"),
                },
                inputs=(containerd, *images),
            ),
        ),
    )


def _module(version: str) -> GoModule:
    return GoModule(
        go_mod=_pin("go.mod"),
        go_sum=_pin("go.sum"),
        packages={member: f"{_MODULE}/cmd/{member}" for member in MEMBERS},
        ldflags=f"-X {_MODULE}/version.Version=v{version}",
    )


def _own(directory: str) -> tuple[Source, ...]:
    return (OwnDirectory(path=directory),) if directory else ()


def _pin(name: str) -> str:
    return files("xk8s_containerd").joinpath("pins", name).read_text()
