"""The hooks of the overlay ``kubernetes``; what they return is made in the other modules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from xk8s import hookimpl
from xk8s.context import ClusterAccess, Context
from xk8s.overlay import (
    NODE_ROLES,
    BootOptions,
    Check,
    Entry,
    Fault,
    File,
    Forward,
    Fragment,
    GuestNeeds,
    KernelNeeds,
    Layer,
    LogFiles,
    Node,
    Observation,
    Overlay,
    Role,
    Symlink,
    Sysctl,
    Take,
)
from xk8s.progress import Progress
from xk8s.render import render_tree
from xk8s_etcd.unit import logged

from xk8s_kubernetes import addresses, cni_plugins, components, configs, observe
from xk8s_kubernetes.addresses import pod_cidrs, service_cidrs
from xk8s_kubernetes.artifacts import kubernetes_artifact
from xk8s_kubernetes.checks import checks
from xk8s_kubernetes.faults import FAULTS
from xk8s_kubernetes.kernel import SYSCTL, SYSCTLS, kernel_needs
from xk8s_kubernetes.manifest import Manifest, manifest_files
from xk8s_kubernetes.points import POINTS
from xk8s_kubernetes.probe import PROBE_IMAGE
from xk8s_kubernetes.settings import CONTROL, NODE, KubernetesSettings

if TYPE_CHECKING:
    from xk8s.pki import Keys

_CONTROL_ROLES: frozenset[Role] = frozenset({"control-plane"})
_WANTS = "/etc/systemd/system/multi-user.target.wants"
_PACKAGE = "xk8s_kubernetes"
_NODE_UNITS = ("kubelet.service", "kube-proxy.service")
_CONTROL_UNITS = tuple(f"{name}.service" for name in CONTROL)


@hookimpl
def xk8s_overlay() -> Overlay:
    """Kubernetes from its own programs, with no installer."""
    return Overlay(
        summary="Kubernetes: control plane on vm-001, kubelet and kube-proxy on every node",
        requires=("base", "etcd", "cri", "images"),
        # A CNI uses what is here: ranges of pods, /opt/cni/bin, checks.
        completed_by=("cni",),
        defaults={"cri": ("crio", "containerd"), "cni": ("bridge",)},
        settings=KubernetesSettings,
        points=POINTS,
    )


@hookimpl
def xk8s_kernel(ctx: Context) -> KernelNeeds:
    """Return requirements by mode of kube-proxy."""
    return kernel_needs(ctx.settings(KubernetesSettings).proxy_mode)


@hookimpl
def xk8s_guest(ctx: Context) -> GuestNeeds:
    """Return programs that kubelet and kube-proxy call."""
    return observe.guest_needs(ctx)


@hookimpl
def xk8s_boot(ctx: Context, node: Node) -> BootOptions:
    """Return the API server's port on the host, and randomness: without it the first TLS key waits.

    Transparent huge pages make Go's heaps larger: the one-node cluster used 498 MB without them
    and 636 to 686 MB with (TCG, node Ready, one run against four). What they do to the CPU time
    is not known: it was only measured while the host was busy with other VMs.
    """
    if node.role not in NODE_ROLES:
        return BootOptions()
    forwards: tuple[Forward, ...] = ()
    if node.role == "control-plane":
        forwards = (
            Forward(
                name=addresses.API_FORWARD,
                guest_port=addresses.API_PORT,
                preferred=ctx.settings(KubernetesSettings).host_port,
            ),
        )
    return BootOptions(
        kernel_args=("transparent_hugepage=never",),
        qemu_args=(
            "-object",
            "rng-random,filename=/dev/urandom,id=rng0",
            "-device",
            "virtio-rng-pci,rng=rng0,max-bytes=1024,period=80000",
        ),
        forwards=forwards,
    )


@hookimpl
def xk8s_fragments(ctx: Context) -> Iterator[Fragment]:
    """Return the image of the pod that the check of service accounts runs, what pods, Services and
    watches need of the kernel, and what is reached without a proxy.
    """
    addresses.check_ranges(ctx)
    domain = ctx.settings(KubernetesSettings).cluster_domain
    for spared in (*pod_cidrs(ctx), *service_cidrs(ctx), ".svc", f".{domain}"):
        yield Fragment(point="cluster.no_proxy", value=spared)
    yield Fragment(point="images.image", value=PROBE_IMAGE)
    for key, value in SYSCTLS.items():
        yield Fragment(point=SYSCTL, value=Sysctl(key=key, value=value, roles=NODE_ROLES))


@hookimpl
def xk8s_layers(ctx: Context) -> Iterator[Layer]:
    """Return programs and configuration separately; a worker gets nothing of the control plane."""
    settings = ctx.settings(KubernetesSettings)
    programs = kubernetes_artifact(settings)
    yield cni_plugins.layer(ctx)
    for layer, names, roles, units in (
        ("kubernetes-node", NODE, NODE_ROLES, _NODE_UNITS),
        ("kubernetes-control", CONTROL, _CONTROL_ROLES, _CONTROL_UNITS),
    ):
        yield Layer(
            name=layer,
            roles=roles,
            units=units,
            entries=tuple(
                Take(
                    artifact=programs,
                    member=name,
                    path=f"/usr/bin/{name}",
                    mode=0o755,
                    units=tuple(unit for unit in units if unit == f"{name}.service"),
                )
                for name in names
            ),
        )
    commands = _commands(ctx)
    yield Layer(
        name="kubernetes-config",
        roles=NODE_ROLES,
        units=_NODE_UNITS,
        entries=(
            *render_tree(_PACKAGE, "node", ctx, commands=commands),
            File(
                path=f"{components.ETC}/kubelet.yaml",
                data=configs.kubelet_config(ctx).encode(),
                units=("kubelet.service",),
            ),
            File(
                path=f"{components.ETC}/proxy.yaml",
                data=configs.proxy_config(ctx).encode(),
                units=("kube-proxy.service",),
            ),
            Symlink(path="/root/.kube/config", target=f"{components.ETC}/root.conf"),
            *_enabled("kube-proxy", "kubelet"),
        ),
    )
    yield Layer(
        name="kubernetes-control-config",
        roles=_CONTROL_ROLES,
        units=_CONTROL_UNITS,
        entries=(
            *render_tree(_PACKAGE, "control", ctx, commands=commands),
            *manifest_files(ctx.fragments("kubernetes.manifest", Manifest)),
            *_enabled(*CONTROL, "kube-manifests"),
        ),
    )


@hookimpl
def xk8s_node_files(ctx: Context, node: Node) -> Iterator[File]:
    """Return addresses of the node."""
    if node.role in NODE_ROLES:
        text = configs.node_environment(ctx, node)
        yield File(path=f"{components.ETC}/node.env", data=text.encode())


@hookimpl
def xk8s_secrets(ctx: Context, node: Node, keys: Keys) -> Iterator[File]:
    """Return keys, certificates and kubeconfigs."""
    from xk8s_kubernetes.secrets import node_secrets  # cryptography is slow to import

    return node_secrets(ctx, node, keys)


@hookimpl
def xk8s_host_files(access: ClusterAccess, keys: Keys) -> Iterator[File]:
    """Return the kubeconfig for kubectl on the host."""
    from xk8s_kubernetes.secrets import host_kubeconfig

    yield File(path="kubeconfig", data=host_kubeconfig(access, keys), mode=0o600)


@hookimpl
def xk8s_leave(access: ClusterAccess, nodes: tuple[str, ...], progress: Progress) -> None:
    """Drain the nodes, then delete them."""
    from xk8s_kubernetes.leave import leave

    leave(access, nodes, progress)


@hookimpl
def xk8s_checks(ctx: Context) -> tuple[Check, ...]:
    """Return the checks of API server, nodes and service accounts."""
    return checks(ctx)


@hookimpl
def xk8s_faults() -> tuple[Fault, ...]:
    """Return faults of starting components, keys and pods."""
    return FAULTS


@hookimpl
def xk8s_observe(ctx: Context) -> Iterator[Observation]:
    """Return objects, logs and tables."""
    return observe.observations(ctx)


@hookimpl
def xk8s_log_files(ctx: Context) -> Iterator[LogFiles]:  # noqa: ARG001 - the same in all clusters
    """Return the output of containers."""
    return observe.log_files()


def _commands(ctx: Context) -> dict[str, str]:
    words = {
        "kube-apiserver": components.apiserver(ctx),
        "kube-controller-manager": components.controller_manager(ctx),
        "kube-scheduler": components.scheduler(ctx),
        "kubelet": components.kubelet(ctx),
        "kube-proxy": components.proxy(ctx),
    }
    return {
        name: logged(f"/usr/bin/{name}", f"/var/log/{name}.log", more)
        for name, more in words.items()
    }


def _enabled(*units: str) -> tuple[Entry, ...]:
    return tuple(
        Symlink(path=f"{_WANTS}/{unit}.service", target=f"/etc/systemd/system/{unit}.service")
        for unit in units
    )
