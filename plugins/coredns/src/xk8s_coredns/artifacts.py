"""Sources of CoreDNS, and its image."""

from __future__ import annotations

from importlib.resources import files

from xk8s.overlay import Take
from xk8s.sources import Artifact, GoModule, OwnDirectory, Release, Source
from xk8s_images import Image

from xk8s_coredns.settings import DEFAULT_VERSION, CorednsSettings


def coredns_artifact(settings: CorednsSettings) -> Artifact:
    """Return your own directory, the release, or a build of the Go module with just the plugins
    that the Corefile here uses (the default version only: others have no pinned go.sum).
    """
    version = settings.version.removeprefix("v")
    url = (
        f"https://github.com/coredns/coredns/releases/download/v{version}/"
        f"coredns_{version}_linux_amd64.tgz"
    )
    own: tuple[Source, ...] = (OwnDirectory(path=settings.dir),) if settings.dir else ()
    release = Release(url=url, checksum_url=f"{url}.sha256", members={"coredns": "coredns"})
    built = [_module()] if version == DEFAULT_VERSION else []
    return Artifact(
        name="coredns", version=f"v{version}", members=("coredns",), sources=(*own, release, *built)
    )


def coredns_image(settings: CorednsSettings) -> Image:
    """Return an image with the program alone: it needs no file but its Corefile."""
    return Image(
        ref=f"xk8s.local/coredns:{settings.version.removeprefix('v')}",
        entries=(
            Take(
                artifact=coredns_artifact(settings), member="coredns", path="/coredns", mode=0o755
            ),
        ),
        entrypoint=("/coredns",),
    )


def _module() -> GoModule:
    return GoModule(
        go_mod=_pin("go.mod"),
        go_sum=_pin("go.sum"),
        packages={"coredns": "xk8s.invalid/coredns"},
        extra_files={"main.go": _pin("main.go.txt")},
    )


def _pin(name: str) -> str:
    return files("xk8s_coredns").joinpath("pins", name).read_text()
