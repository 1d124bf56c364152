"""Sources of the programs of Kubernetes and the CNI plugins."""

from __future__ import annotations

from importlib.resources import files

from xk8s.sources import Artifact, DebPackage, GoModule, GoRelease, OwnDirectory, Release, Source

from xk8s_kubernetes.settings import CONTROL, DEFAULT_VERSION, NODE, KubernetesSettings
from xk8s_kubernetes.versions import release

MEMBERS = (*CONTROL, *NODE)

CNI_VERSION = "v1.9.1"
CNI_PLUGINS = {
    "bandwidth": "meta",
    "bridge": "main",
    "dummy": "main",
    "firewall": "meta",
    "host-device": "main",
    "host-local": "ipam",
    "ipvlan": "main",
    "loopback": "main",
    "macvlan": "main",
    "portmap": "meta",
    "ptp": "main",
    "static": "ipam",
    "tuning": "meta",
    "vlan": "main",
}
"""Directory of each plugin in the source."""


def kubernetes_artifact(settings: KubernetesSettings) -> Artifact:
    """Return the artifact of Kubernetes: your own directory for what it contains; for the rest the
    release, then a build of the Go module: for the default version with the pinned go.sum, for
    others with the checksums of Go's checksum database. `UsageError` for a version that is not
    available or not supported.
    """
    version = release(settings.version)
    base = f"https://dl.k8s.io/release/{version}/bin/linux/amd64"
    releases = [
        Release(url=f"{base}/{name}", checksum_url=f"{base}/{name}.sha256", members={name: ""})
        for name in MEMBERS
    ]
    return Artifact(
        name="kubernetes",
        version=version,
        members=MEMBERS,
        sources=(*_own(settings.dir), *releases, _kubernetes_module(version)),
        verify="xk8s_kubernetes.programs:"
        + ("check_without_skew" if settings.allow_skew else "check"),
    )


def cni_artifact() -> Artifact:
    """Return the common CNI plugins; `xk8s_kubernetes.cni_plugins` adds the user's own."""
    base = f"https://github.com/containernetworking/plugins/releases/download/{CNI_VERSION}"
    archive = f"{base}/cni-plugins-linux-amd64-{CNI_VERSION}.tgz"
    source = "github.com/containernetworking/plugins"
    return Artifact(
        name="cni-plugins",
        version=CNI_VERSION,
        members=tuple(CNI_PLUGINS),
        sources=(
            Release(
                url=archive,
                checksum_url=f"{archive}.sha256",
                members={name: name for name in CNI_PLUGINS},
            ),
            GoModule(
                go_mod=_pin("cni", "go.mod"),
                go_sum=_pin("cni", "go.sum"),
                packages={
                    name: f"{source}/plugins/{kind}/{name}" for name, kind in CNI_PLUGINS.items()
                },
                ldflags=f"-X {source}/pkg/utils/buildversion.BuildVersion={CNI_VERSION}",
            ),
            DebPackage(
                members={
                    name: ("containernetworking-plugins", f"/usr/lib/cni/{name}")
                    for name in CNI_PLUGINS
                }
            ),
        ),
    )


def _kubernetes_module(version: str) -> Source:
    major, minor = version.removeprefix("v").split(".")[:2]
    variables = {
        "gitVersion": version,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
    }
    packages = {name: f"k8s.io/kubernetes/cmd/{name}" for name in MEMBERS}
    ldflags = " ".join(
        f"-X k8s.io/component-base/version.{name}={value}" for name, value in variables.items()
    )
    if version == DEFAULT_VERSION:
        return GoModule(
            go_mod=_pin("kubernetes", "go.mod"),
            go_sum=_pin("kubernetes", "go.sum"),
            packages=packages,
            ldflags=ldflags,
        )
    return GoRelease(
        module="k8s.io/kubernetes",
        version=version,
        # Its parts that are published as separate modules: v1.36.3 has them as v0.36.3.
        staging=f"v0.{version.partition('.')[2]}",
        packages=packages,
        ldflags=ldflags,
    )


def _own(directory: str) -> tuple[Source, ...]:
    return (OwnDirectory(path=directory),) if directory else ()


def _pin(module: str, name: str) -> str:
    return files("xk8s_kubernetes").joinpath("pins", module, name).read_text()
