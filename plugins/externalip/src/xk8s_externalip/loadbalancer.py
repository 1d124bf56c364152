"""Addresses for Services of type LoadBalancer: a small program on the control plane.

Its source is in the directory ``program``: Go's standard library alone. A shell around
``kubectl`` would cost a guest without KVM 2 s of CPU for each call and 40 MB for a watch.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from importlib.resources import files
from typing import TYPE_CHECKING

from xk8s.context import Context
from xk8s.overlay import File, Layer, Node, Role, Symlink, Take
from xk8s.render import render_text, render_tree
from xk8s.sources import Artifact, GoModule
from xk8s_etcd.unit import quote
from xk8s_kubernetes import Manifest, addresses
from xk8s_kubernetes.components import PKI
from xk8s_mconnect.overlay import vips

from xk8s_externalip.settings import IpNetwork, prefixes

if TYPE_CHECKING:
    from xk8s.pki import Keys

UNIT = "kube-loadbalancer.service"
USER = "xk8s:loadbalancer"
"""Its identity for the API server: see files/loadbalancer.yaml for its permissions."""

_PACKAGE = "xk8s_externalip"
_PROGRAM = "/usr/bin/kube-loadbalancer"
_SOURCES = ("api.go", "controller.go", "decide.go", "main.go", "pool.go", "service.go")
_ROLES: frozenset[Role] = frozenset({"control-plane"})


def program() -> Artifact:
    """Return a build of our own source, which has no other origin."""
    source = files(_PACKAGE).joinpath("program")
    module = GoModule(
        go_mod=source.joinpath("go.mod").read_text(),
        go_sum="",
        packages={"kube-loadbalancer": "xk8s.invalid/loadbalancer"},
        extra_files={name: source.joinpath(name).read_text() for name in _SOURCES},
    )
    return Artifact(
        name="kube-loadbalancer", version="1", members=("kube-loadbalancer",), sources=(module,)
    )


def manifest(ctx: Context) -> Manifest:
    """Return its role."""
    return Manifest(name="55-loadbalancer", yaml=render_text(_PACKAGE, "loadbalancer.yaml", ctx))


def layer(ctx: Context) -> Layer:
    """Return the program and its unit."""
    command = " \\\n    ".join(quote(word) for word in (_PROGRAM, *arguments(ctx)))
    return Layer(
        name="externalip",
        roles=_ROLES,
        units=(UNIT,),
        entries=(
            Take(artifact=program(), member="kube-loadbalancer", path=_PROGRAM, mode=0o755),
            *render_tree(_PACKAGE, "control", ctx, command=command),
            Symlink(
                path=f"/etc/systemd/system/multi-user.target.wants/{UNIT}",
                target=f"/etc/systemd/system/{UNIT}",
            ),
        ),
    )


def secrets(node: Node, keys: Keys) -> Iterator[File]:
    """Return a certificate of its own."""
    from xk8s_kubernetes.secrets import CA

    if node.role in _ROLES:
        pair = keys.cert(CA, "loadbalancer", common_name=USER)
        yield File(path=f"{PKI}/loadbalancer.crt", data=pair.cert)
        yield File(path=f"{PKI}/loadbalancer.key", data=pair.key, mode=0o600)


def arguments(ctx: Context) -> tuple[str, ...]:
    """Return the program's arguments for the cluster: the pool, and the part of it that is
    taken.
    """
    pools = prefixes(ctx)
    reserved = [
        network
        for network in _networks(ctx)
        if any(network.version == pool.version and network.overlaps(pool) for pool in pools)
    ]
    return (
        f"--server=https://127.0.0.1:{addresses.API_PORT}",
        f"--ca={PKI}/ca.crt",
        f"--cert={PKI}/loadbalancer.crt",
        f"--key={PKI}/loadbalancer.key",
        *(f"--pool={pool}" for pool in pools),
        *(f"--reserved={network}" for network in reserved),
        # If mconnect's manifest is applied later, its addresses must be free.
        *(f"--on-request={vip}" for vip in vips(ctx)),
    )


def _networks(ctx: Context) -> list[IpNetwork]:
    """Yield the networks of nodes, pods and Services; the nodes' IPv6 ones are in the pool by
    default.
    """
    texts = [text for network in ctx.networks for text in (network.ipv4, network.ipv6)]
    texts += [*addresses.pod_cidrs(ctx), *addresses.service_cidrs(ctx)]
    return [ipaddress.ip_network(text) for text in texts]
