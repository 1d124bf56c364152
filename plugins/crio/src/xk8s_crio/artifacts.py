"""Sources of CRI-O and its helpers, and the image store in a layer."""

from __future__ import annotations

from pathlib import Path

from xk8s.artifact_keys import is_cached
from xk8s.context import Context
from xk8s.releases import why_unavailable
from xk8s.sources import Artifact, DebPackage, OwnDirectory, Recipe, Release, Source
from xk8s_images import cri, image_artifacts, image_ref

from xk8s_crio.settings import MEMBERS, CrioSettings

STORE_IN_LAYER = "usr/lib/xk8s/crio"
STORE_IN_NODE = f"{cri.store_mount('crio')}/{STORE_IN_LAYER}"

_IN_DEBIAN = {"conmon": "/usr/bin/conmon", "crun": "/usr/bin/crun", "runc": "/usr/sbin/runc"}


def crio_artifact(settings: CrioSettings) -> Artifact:
    """Return CRI-O with its helpers: your own directory for what it contains, then the project's
    static release bundle, which has all of them, then Debian for conmon and the OCI runtime.

    No package registry has CRI-O, and the Go module proxy does not serve it.
    """
    helpers = {name: (name, _IN_DEBIAN[name]) for name in ("conmon", settings.runtime)}
    return Artifact(
        name="crio",
        version=_version(settings),
        members=_members(settings),
        sources=(*_own(settings), _release(settings), DebPackage(members=helpers)),
    )


def _release(settings: CrioSettings) -> Release:
    # The project's GitHub releases have notes only and point here for the bundles.
    place = "https://storage.googleapis.com/cri-o/artifacts"
    url = f"{place}/cri-o.amd64.{_version(settings)}.tar.gz"
    return Release(
        url=url,
        checksum_url=f"{url}.sha256sum",
        members={member: f"cri-o/bin/{member}" for member in _members(settings)},
    )


def _version(settings: CrioSettings) -> str:
    return "v" + settings.version.removeprefix("v")


def _members(settings: CrioSettings) -> tuple[str, ...]:
    return (*MEMBERS, "conmon", settings.runtime, *_crictl(settings))


def _crictl(settings: CrioSettings) -> tuple[str, ...]:
    """Return the tool crictl, for people and for `xk8s load image`; a node works without it. The
    release has it, your own build of CRI-O alone does not.
    """
    own = Path(settings.dir).expanduser() / "crictl"
    return ("crictl",) if not settings.dir or own.is_file() else ()


def store_artifact(ctx: Context) -> Artifact:
    """Return the EROFS image with an additional image store of containers/storage."""
    images = image_artifacts(ctx)
    return Artifact(
        name="crio-store",
        version="1",
        members=(cri.STORE_MEMBER,),
        sources=(
            Recipe(
                function="xk8s_crio.store:bake",
                params={"images": {image.name: image_ref(image) for image in images}},
                inputs=images,
            ),
        ),
    )


def unavailable(settings: CrioSettings, *, online: bool) -> str | None:
    """Return why CRI-O is unavailable here, or None if your own is given or its release is
    published.
    """
    if settings.dir:
        directory = Path(settings.dir).expanduser()
        missing = [name for name in MEMBERS if not (directory / name).is_file()]
        return f"{directory} has no {' and no '.join(missing)}" if missing else None
    artifact = crio_artifact(settings)
    if is_cached(artifact):
        return None
    if why := why_unavailable(_release(settings), online=online):
        return f"{why}; your own build: XK8S_CRIO_DIR"
    return None


def _own(settings: CrioSettings) -> tuple[Source, ...]:
    return (OwnDirectory(path=settings.dir),) if settings.dir else ()
