"""The overlay ``multinet``: pods get further interfaces, beside the one of their CNI.

It works with any CNI. Pods request interfaces in an annotation, which the container runtime passes
to the plugin: no daemon runs, and nothing asks the API server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files

from xk8s import hookimpl
from xk8s.context import Context
from xk8s.overlay import (
    NODE_ROLES,
    Check,
    Fault,
    File,
    Fragment,
    KernelNeeds,
    Node,
    Observation,
    Overlay,
)
from xk8s.sources import Artifact, GoModule
from xk8s_kubernetes import addresses, cni
from xk8s_kubernetes.pod_network import PodNetwork, network_check

from xk8s_multinet.networks import (
    CONF_DIR,
    STATE_DIR,
    cni_config,
    near_routes,
    networks,
    node_prefixes,
    prefixes,
)
from xk8s_multinet.settings import MultinetSettings

ANNOTATION = "k8s.v1.cni.cncf.io/networks"
"""The annotation of the Network Plumbing Working Group's standard."""

PLUGIN = "multinet"
_CAPABILITY = "io.kubernetes.cri.pod-annotations"
"""The capability of plugins to which runtimes give a pod's annotations."""

_SOURCES = ("main.go", "networks.go")


@hookimpl
def xk8s_overlay() -> Overlay:
    """Describe an overlay for any CNI."""
    return Overlay(
        summary="further interfaces for pods that request them, on the nodes' networks (macvlan)",
        requires=("kubernetes",),
        settings=MultinetSettings,
    )


@hookimpl
def xk8s_kernel(ctx: Context) -> KernelNeeds:  # noqa: ARG001
    """Require the interfaces' kind."""
    return KernelNeeds(modules=("macvlan",), roles=NODE_ROLES)


@hookimpl
def xk8s_fragments(ctx: Context) -> Iterator[Fragment]:
    """Return the plugin, its place after the CNI's own, and the route to the pods from this
    machine.
    """
    yield Fragment(point=cni.PLUGINS, value=program())
    yield Fragment(point=cni.CHAIN, value=chained())
    for net in networks(ctx):
        for prefix in prefixes(ctx, net) if ctx.by_role("router") else ():
            yield Fragment(point="cluster.route", value=prefix)


@hookimpl
def xk8s_node_files(ctx: Context, node: Node) -> Iterator[File]:
    """Return what pods of the node may request, and the routes to the pods for every VM on the
    wire.
    """
    for net in networks(ctx):
        if node.role in NODE_ROLES:
            text = json.dumps(cni_config(ctx, net, node), indent=2) + "\n"
            # It is read for each pod.
            yield File(path=f"{CONF_DIR}/{net.name}.conf", data=text.encode(), units=())
        if any(nic.network == net.network.index for nic in node.nics):
            yield File(
                path=f"/etc/systemd/network/20-{net.interface}.network.d/multinet.conf",
                data=near_routes(ctx, net).encode(),
            )


@hookimpl
def xk8s_checks(ctx: Context) -> Iterator[Check]:
    """Check that pods that request a network reach each other on it."""
    for net in networks(ctx):
        yield network_check(
            ctx,
            PodNetwork(
                overlay="multinet",
                mtu=net.network.mtu,
                name=f"pod network {net.name}",
                interface="net1",
                annotations={ANNOTATION: net.name},
                ranges={
                    node.name: node_prefixes(ctx, net, node)
                    for node in addresses.kubernetes_nodes(ctx)
                },
            ),
        )


@hookimpl
def xk8s_faults() -> Iterator[Fault]:
    """Return faults of annotations."""
    yield Fault(
        name="multinet-annotation",
        pattern=r"annotation k8s\.v1\.cni\.cncf\.io/networks: ",
        cause="a pod requests a network that the nodes do not have, or in a form that multinet "
        "does not support",
        remedy="the annotation is NAME or NAME,NAME; the names are those of multinet.networks",
        examples=(
            'plugin type="multinet" failed (add): annotation k8s.v1.cni.cncf.io/networks: there is '
            'no network "nope" on this node; there is: net2',
        ),
    )


@hookimpl
def xk8s_observe(ctx: Context) -> Iterator[Observation]:  # noqa: ARG001 - the same everywhere
    """Return what is attached to which pod."""
    argv = ("find", f"{STATE_DIR}/results", f"{STATE_DIR}/addresses", "-type", "f")
    yield Observation(name="multinet/attached", argv=argv, roles=NODE_ROLES)


def chained() -> dict[str, object]:
    """Return the plugin's part of the CNI's configuration list."""
    return {
        "type": PLUGIN,
        "capabilities": {_CAPABILITY: True},
        "confDir": CONF_DIR,
        "stateDir": STATE_DIR,
    }


def program() -> Artifact:
    """Return a build of our own source, which has no other origin."""
    source = files("xk8s_multinet").joinpath("program")
    module = GoModule(
        go_mod=source.joinpath("go.mod").read_text(),
        go_sum=source.joinpath("go.sum").read_text(),
        packages={PLUGIN: "xk8s.invalid/multinet"},
        extra_files={name: source.joinpath(name).read_text() for name in _SOURCES},
    )
    return Artifact(name="multinet", version="1", members=(PLUGIN,), sources=(module,))
