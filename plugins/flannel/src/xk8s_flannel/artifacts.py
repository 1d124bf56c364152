"""Sources of flanneld and its CNI plugin."""

from __future__ import annotations

from importlib.resources import files

from xk8s.sources import Artifact, GoModule, OwnDirectory, Source

from xk8s_flannel.settings import VERSION, FlannelSettings

PLUGIN = "flannel"
PLUGIN_VERSION = "v0.9.1"
_PLUGINS = "github.com/containernetworking/plugins"


def flanneld_artifact(settings: FlannelSettings) -> Artifact:
    """Return your own directory, or a build of flannel's packages with a main package of ours: its
    own one has backends that need a C compiler. Releases have no checksums.
    """
    own: tuple[Source, ...] = (OwnDirectory(path=settings.dir),) if settings.dir else ()
    module = GoModule(
        go_mod=_text("pins", "go.mod"),
        go_sum=_text("pins", "go.sum"),
        packages={"flanneld": "xk8s.invalid/flannel"},
        extra_files={"main.go": _text("program", "main.go")},
        ldflags=f"-X github.com/flannel-io/flannel/pkg/version.Version={VERSION}",
    )
    return Artifact(name="flanneld", version=VERSION, members=("flanneld",), sources=(*own, module))


def plugin_artifact() -> Artifact:
    """Return the CNI plugin, from the last release of the common plugins that had it: since then it
    has its own repository. It needs nothing beyond what flanneld writes.
    """
    module = GoModule(
        go_mod=_text("pins", "cni", "go.mod"),
        go_sum=_text("pins", "cni", "go.sum"),
        packages={PLUGIN: f"{_PLUGINS}/plugins/meta/flannel"},
        ldflags=f"-X {_PLUGINS}/pkg/utils/buildversion.BuildVersion={PLUGIN_VERSION}",
    )
    return Artifact(
        name="flannel-cni-plugin", version=PLUGIN_VERSION, members=(PLUGIN,), sources=(module,)
    )


def _text(*path: str) -> str:
    return files("xk8s_flannel").joinpath(*path).read_text()
