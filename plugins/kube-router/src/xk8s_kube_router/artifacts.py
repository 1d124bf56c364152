"""Sources of kube-router."""

from __future__ import annotations

from importlib.resources import files

from xk8s.sources import Artifact, GoModule, OwnDirectory, Source

from xk8s_kube_router.settings import VERSION, KubeRouterSettings

_MODULE = "github.com/cloudnativelabs/kube-router/v2"


def kube_router_artifact(settings: KubeRouterSettings) -> Artifact:
    """Return your own directory, or a build of the Go module."""
    own: tuple[Source, ...] = (OwnDirectory(path=settings.dir),) if settings.dir else ()
    module = GoModule(
        go_mod=_pin("go.mod"),
        go_sum=_pin("go.sum"),
        packages={"kube-router": f"{_MODULE}/cmd/kube-router"},
        ldflags=f"-X {_MODULE}/pkg/version.Version={VERSION}",
    )
    return Artifact(
        name="kube-router", version=VERSION, members=("kube-router",), sources=(*own, module)
    )


def _pin(name: str) -> str:
    return files("xk8s_kube_router").joinpath("pins", name).read_text()
