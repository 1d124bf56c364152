"""The hooks of the overlay ``etcd``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from xk8s import hookimpl
from xk8s.context import Context
from xk8s.limits import size_in_bytes
from xk8s.overlay import (
    BootOptions,
    Fault,
    File,
    GuestNeeds,
    KernelNeeds,
    Layer,
    Node,
    Observation,
    Overlay,
    Symlink,
    Take,
    Volume,
)
from xk8s.render import render_tree

from xk8s_etcd import CA, DATA, PKI, ROLES
from xk8s_etcd.artifacts import etcd_artifact
from xk8s_etcd.faults import FAULTS
from xk8s_etcd.observe import observations
from xk8s_etcd.points import ARGS, ARGS_POINT
from xk8s_etcd.settings import MEMBERS, EtcdSettings
from xk8s_etcd.unit import logged, quote

if TYPE_CHECKING:
    from xk8s.pki import Keys

_UNIT = "/etc/systemd/system/etcd.service"
_WANTED = "/etc/systemd/system/multi-user.target.wants/etcd.service"
_UNITS = ("etcd.service",)


@hookimpl
def xk8s_overlay() -> Overlay:
    """Describe a single member on the control plane."""
    return Overlay(
        summary="etcd on the control plane, whose data outlive its VM",
        requires=("base",),
        settings=EtcdSettings,
        points={ARGS_POINT: ARGS},
    )


@hookimpl
def xk8s_guest(ctx: Context) -> GuestNeeds:  # noqa: ARG001
    """Return the programs that start its unit (see `xk8s_etcd.unit`)."""
    return GuestNeeds(programs=("bash", "tee"), roles=ROLES)


@hookimpl
def xk8s_kernel(ctx: Context) -> KernelNeeds:  # noqa: ARG001
    """Return what its volume takes."""
    return KernelNeeds(config=("EXT4_FS", "VIRTIO_BLK"), roles=ROLES)


@hookimpl
def xk8s_boot(ctx: Context, node: Node) -> BootOptions:
    """Return the volume with its data, which a control plane finds again after a reboot."""
    if node.role not in ROLES:
        return BootOptions()
    size = size_in_bytes(ctx.settings(EtcdSettings).size) >> 20
    return BootOptions(volumes=(Volume(name="etcd", path=DATA, size=size),))


@hookimpl
def xk8s_layers(ctx: Context) -> Iterator[Layer]:
    """Return programs and configuration separately: they change at different times."""
    settings = ctx.settings(EtcdSettings)
    artifact = etcd_artifact(settings)
    yield Layer(
        name="etcd",
        roles=ROLES,
        units=_UNITS,
        entries=tuple(
            Take(artifact=artifact, member=name, path=f"/usr/bin/{name}", mode=0o755)
            for name in MEMBERS
        ),
    )
    yield Layer(
        name="etcd-config",
        roles=ROLES,
        units=_UNITS,
        entries=(
            *render_tree(
                "xk8s_etcd",
                "etcd",
                ctx,
                command=logged("/usr/bin/etcd", "/var/log/etcd.log", _arguments(ctx)),
            ),
            Symlink(path=_WANTED, target=_UNIT),
        ),
    )


def _arguments(ctx: Context) -> list[str]:
    """Return the arguments of one member that nobody else joins."""
    settings = ctx.settings(EtcdSettings)
    added = (*ctx.fragments(ARGS_POINT, str), *settings.args)
    url, peer = "https://127.0.0.1:2379", "https://127.0.0.1:2380"
    return [
        "--name=%H",
        f"--data-dir={DATA}/data",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=%H={peer}",
        f"--trusted-ca-file={PKI}/ca.crt",
        f"--cert-file={PKI}/server.crt",
        f"--key-file={PKI}/server.key",
        "--client-cert-auth=true",
        f"--peer-trusted-ca-file={PKI}/ca.crt",
        f"--peer-cert-file={PKI}/peer.crt",
        f"--peer-key-file={PKI}/peer.key",
        "--peer-client-cert-auth=true",
        # Nobody to elect against, and a busy host must not look like a lost leader; fewer ticks
        # are less work when idle.
        "--heartbeat-interval=500",
        "--election-timeout=5000",
        # Entries of the log since the last snapshot are kept in memory; the log's files before it
        # may go. Five of them, of 64 MiB each, would be kept otherwise, and fill what there is.
        "--snapshot-count=500",
        "--max-wals=1",
        "--max-snapshots=1",
        # A full store is an alarm and not a crash.
        f"--quota-backend-bytes={settings.quota}",
        *(quote(argument) for argument in added),
    ]


@hookimpl
def xk8s_secrets(ctx: Context, node: Node, keys: Keys) -> Iterator[File]:  # noqa: ARG001
    """Return server and peer certificates of the member; the authority's key stays on the host."""
    if node.role not in ROLES:
        return
    names = (node.name, "localhost", "127.0.0.1", "::1")
    yield File(path=f"{PKI}/ca.crt", data=keys.ca(CA).cert, mode=0o644)
    for name in ("server", "peer"):
        # etcd uses its server certificate as a client of itself, too.
        pair = keys.cert(
            CA,
            f"etcd-{name}-{node.name}",
            common_name=node.name,
            sans=names,
            server=True,
            client=True,
        )
        yield File(path=f"{PKI}/{name}.crt", data=pair.cert, mode=0o644)
        yield File(path=f"{PKI}/{name}.key", data=pair.key, mode=0o600)


@hookimpl
def xk8s_observe(ctx: Context) -> Iterator[Observation]:  # noqa: ARG001 - one member, always
    """Return its log, and its own state."""
    return observations()


@hookimpl
def xk8s_faults() -> tuple[Fault, ...]:
    """Return the fault of a full store."""
    return FAULTS
