"""Where CRI-O and its helpers come from, and the image store in a layer."""

from __future__ import annotations

from pathlib import Path

from xk8s.artifacts.keys import artifact_key
from xk8s.artifacts.model import (
    Artifact,
    DebPackage,
    OwnDirectory,
    Recipe,
    Release,
    Source,
)
from xk8s.context import Context
from xk8s.paths import cache_dir
from xk8s_images import image_artifacts, image_ref

from xk8s_crio.settings import CrioSettings

MEMBERS = ("crio", "pinns")
STORE_LAYER = "crio-store"
STORE_MEMBER = "store.erofs"
STORE_IN_LAYER = "usr/lib/xk8s/crio"
STORE_IN_NODE = f"/run/xk8s/layers/{STORE_LAYER}/{STORE_IN_LAYER}"
"""The layer's own mount, not the merged root: overlayfs counts how deep it is stacked."""


def crio_artifact(settings: CrioSettings) -> Artifact:
    """Crio and pinns: your own, or the project's static release bundle.

    No package registry has CRI-O, and it is no Go module that the module proxy serves.
    """
    version = settings.version.removeprefix("v")
    # The project's GitHub releases have notes only and point here for the bundles.
    url = f"https://storage.googleapis.com/cri-o/artifacts/cri-o.amd64.v{version}.tar.gz"
    release = Release(
        url=url,
        checksum_url=f"{url}.sha256sum",
        members={member: f"cri-o/bin/{member}" for member in MEMBERS},
    )
    return Artifact(
        name="crio",
        version=f"v{version}",
        members=MEMBERS,
        sources=(*_own(settings), release),
    )


def helper_artifact(settings: CrioSettings, name: str) -> Artifact:
    """conmon, crun or runc: your own, or Debian's."""
    path = {"conmon": "/usr/bin/conmon", "crun": "/usr/bin/crun", "runc": "/usr/sbin/runc"}[name]
    return Artifact(
        name=name,
        version="trixie",
        members=(name,),
        sources=(*_own(settings), DebPackage(members={name: (name, path)})),
    )


def crictl_artifact(settings: CrioSettings) -> Artifact | None:
    """crictl, when your directory has it: a help for people, nothing needs it."""
    if not settings.dir or not (Path(settings.dir).expanduser() / "crictl").is_file():
        return None
    return Artifact(name="crictl", version="own", members=("crictl",), sources=_own(settings))


def store_artifact(ctx: Context) -> Artifact:
    """The EROFS image with an additional image store of containers/storage."""
    images = image_artifacts(ctx)
    return Artifact(
        name="crio-store",
        version="1",
        members=(STORE_MEMBER,),
        sources=(
            Recipe(
                function="xk8s_crio.store:bake",
                params={"images": {image.name: image_ref(image) for image in images}},
                inputs=images,
            ),
        ),
    )


def unavailable(settings: CrioSettings) -> str | None:
    """Why CRI-O cannot be had without the internet, or None when it is at hand."""
    if settings.dir:
        directory = Path(settings.dir).expanduser()
        missing = [name for name in MEMBERS if not (directory / name).is_file()]
        return f"{directory} has no {' and no '.join(missing)}" if missing else None
    key = artifact_key(crio_artifact(settings))
    if (cache_dir() / "artifacts" / key / "provenance.json").exists():
        return None
    return (
        "no package registry has it: give a directory with its programs (XK8S_CRIO_DIR), or name "
        "crio among the overlays once to download its release"
    )


def _own(settings: CrioSettings) -> tuple[Source, ...]:
    return (OwnDirectory(path=settings.dir),) if settings.dir else ()
