"""Sources of etcd's programs."""

from __future__ import annotations

from xk8s.sources import Artifact, DebPackage, OwnDirectory, Release, Source

from xk8s_etcd.settings import MEMBERS, EtcdSettings


def etcd_artifact(settings: EtcdSettings) -> Artifact:
    """Return your own directory, the project's release, Debian's package."""
    version = settings.version.removeprefix("v")
    top = f"etcd-v{version}-linux-amd64"
    base = f"https://github.com/etcd-io/etcd/releases/download/v{version}"
    own: tuple[Source, ...] = (OwnDirectory(path=settings.dir),) if settings.dir else ()
    return Artifact(
        name="etcd",
        version=version,
        members=MEMBERS,
        sources=(
            *own,
            Release(
                url=f"{base}/{top}.tar.gz",
                checksum_url=f"{base}/SHA256SUMS",
                members={name: f"{top}/{name}" for name in MEMBERS},
            ),
            DebPackage(
                members={
                    "etcd": ("etcd-server", "/usr/bin/etcd"),
                    "etcdctl": ("etcd-client", "/usr/bin/etcdctl"),
                }
            ),
        ),
    )
