"""The contract between the core and overlays: every hook, typed.

An overlay is a module (or any object) named by an entry point in the group ``xk8s.v1``; the
entry point's name is the overlay's name. It implements the hooks it needs::

    from xk8s import hookimpl
    from xk8s.overlay import Overlay

    @hookimpl
    def xk8s_overlay() -> Overlay:
        return Overlay(summary="dummy interfaces", requires=("base",))

All hooks are synchronous, return values (docs/reference/values.md), and do no I/O but reading the
plugin's own package data. Only the callables inside `Check`, the functions of a `Recipe`,
`xk8s_secrets`, `xk8s_host_files` and `xk8s_apply` act on the world.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

from xk8s.context import ClusterAccess, Context
from xk8s.overlay import (
    BootImage,
    BootOptions,
    Check,
    Fault,
    File,
    Fragment,
    GuestNeeds,
    KernelFacts,
    KernelNeeds,
    Layer,
    LogFiles,
    Node,
    Observation,
    Overlay,
)
from xk8s.progress import Progress

if TYPE_CHECKING:
    from xk8s.pki import Keys  # cryptography takes long to import, and a plan needs no keys

hookspec = pluggy.HookspecMarker("xk8s")
hookimpl = pluggy.HookimplMarker("xk8s")


@hookspec
def xk8s_overlay() -> Overlay:  # type: ignore[empty-body]
    """Describe this overlay: summary, what it provides and requires, its settings class.

    Example::

        @hookimpl
        def xk8s_overlay() -> Overlay:
            return Overlay(summary="etcd", requires=("base",), settings=EtcdSettings)
    """


@hookspec
def xk8s_unavailable(settings: object, online: bool) -> str | None:
    """Return why this overlay cannot be a *default* choice for a capability here, or None.

    Asked only when the overlay is a candidate in another overlay's ``defaults``; ``settings``
    is an instance of this overlay's own settings class. ``online``: the network may be used for
    some seconds (`up` and `artifacts --fetch` do); otherwise, as always when planning, only what
    is on this machine counts (`xk8s.releases` remembers answers).

    Example::

        @hookimpl
        def xk8s_unavailable(settings: CrioSettings, online: bool) -> str | None:
            return why_unavailable(release(settings), online=online)
    """


@hookspec
def xk8s_fragments(ctx: Context) -> Iterable[Fragment]:  # type: ignore[empty-body]
    """Contribute to named points of other overlays (``ctx.fragments`` is still empty). It is an
    error if the owner does not have the point, if the value has another type, or if it contradicts
    that of another overlay. docs/reference/points.md lists the points of xk8s.

    Example::

        @hookimpl
        def xk8s_fragments(ctx: Context) -> Iterable[Fragment]:
            yield Fragment(point="kubernetes.apiserver.args", value="--v=4")
    """


@hookspec
def xk8s_layers(ctx: Context) -> Iterable[Layer]:  # type: ignore[empty-body]
    r"""Return the layers of this overlay, lowest first.

    Example::

        @hookimpl
        def xk8s_layers(ctx: Context) -> Iterable[Layer]:
            yield Layer(name="motd", entries=(File(path="/etc/motd", data=b"hello\n"),))
    """


@hookspec
def xk8s_kernel(ctx: Context) -> KernelNeeds:  # type: ignore[empty-body]
    """Declare what this overlay needs from the guest kernel; verified when the plan is made.

    Example::

        @hookimpl
        def xk8s_kernel(ctx: Context) -> KernelNeeds:
            return KernelNeeds(modules=("dummy",), config=("IP_ROUTE_MULTIPATH",))
    """


@hookspec
def xk8s_guest(ctx: Context) -> GuestNeeds:  # type: ignore[empty-body]
    """Declare programs and files of the guest that this overlay needs but does not provide. They
    are verified right after the boot: if one is missing, `up` ends at once.

    Example::

        @hookimpl
        def xk8s_guest(ctx: Context) -> GuestNeeds:
            return GuestNeeds(programs=("nsenter",), files=("/etc/resolv.conf",))
    """


@hookspec
def xk8s_kernel_facts(ctx: Context) -> KernelFacts:  # type: ignore[empty-body]
    """Describe the kernel. Implemented only by the overlay that provides ``base``.

    Example::

        @hookimpl
        def xk8s_kernel_facts(ctx: Context) -> KernelFacts:
            return KernelFacts(
                release="6.12.1",
                config={"SWAP": "y", "DUMMY": "m"},
                modules=frozenset({"dummy"}),
                builtin=frozenset(),
            )
    """


@hookspec
def xk8s_boot_image(ctx: Context) -> BootImage:  # type: ignore[empty-body]
    """Return kernel and initramfs. Implemented only by the overlay that provides ``base``.

    Example::

        @hookimpl
        def xk8s_boot_image(ctx: Context) -> BootImage:
            return BootImage(
                kernel=Take(artifact=KERNEL, member="vmlinuz", path="/vmlinuz"),
                initramfs=Take(artifact=KERNEL, member="initrd.img", path="/initrd.img"),
                kernel_args=("console=ttyS0",),
            )
    """


@hookspec
def xk8s_boot(ctx: Context, node: Node) -> BootOptions:  # type: ignore[empty-body]
    """Return kernel arguments, QEMU devices (kvm flags) and port forwards of one node.

    Example::

        @hookimpl
        def xk8s_boot(ctx: Context, node: Node) -> BootOptions:
            return BootOptions(
                qemu_args=("-device", "virtio-balloon-pci"),
                forwards=(Forward(name="web", guest_port=80),),
            )
    """


@hookspec
def xk8s_node_files(ctx: Context, node: Node) -> Iterable[File]:  # type: ignore[empty-body]
    r"""Return files of one node that contain no secrets: addresses, routes, names. Part of the
    plan.

    Example::

        @hookimpl
        def xk8s_node_files(ctx: Context, node: Node) -> Iterable[File]:
            yield File(path="/etc/number", data=f"{node.number}\n".encode())
    """


@hookspec
def xk8s_secrets(ctx: Context, node: Node, keys: Keys) -> Iterable[File]:  # type: ignore[empty-body]
    """Return files of one node made from the cluster's own keys; called when the cluster is
    started, never part of the plan, of a shared layer or of a log.

    Example::

        @hookimpl
        def xk8s_secrets(ctx: Context, node: Node, keys: Keys) -> Iterable[File]:
            pair = keys.cert("web-ca", node.name, common_name=node.name)
            yield File(path="/etc/web/tls.key", data=pair.key, mode=0o600)
    """


@hookspec
def xk8s_host_files(access: ClusterAccess, keys: Keys) -> Iterable[File]:  # type: ignore[empty-body]
    """Return files for the host, written with mode 0600 below the cluster's state directory before
    the checks run, e.g. ``File(path="kubeconfig", …)`` (relative path). ``access`` knows the
    forwards.

    Example::

        @hookimpl
        def xk8s_host_files(access: ClusterAccess, keys: Keys) -> Iterable[File]:
            yield File(path="web-ca.crt", data=keys.ca("web-ca").cert)
    """


@hookspec
def xk8s_apply(access: ClusterAccess, layers: tuple[str, ...], progress: Progress) -> None:
    """Apply to a running cluster what changed in layers of this overlay that are marked
    ``applied_by_hook``; ``layers`` are their names. ``access`` knows the new plan.

    `xk8s apply` calls it when all changed files are in place and before any unit is restarted.
    An error ends the apply; the next one calls it again, possibly for things already done.

    Example::

        @hookimpl
        def xk8s_apply(access: ClusterAccess, layers: tuple[str, ...], progress: Progress) -> None:
            load_missing_images(access, progress)
    """


@hookspec
def xk8s_leave(access: ClusterAccess, nodes: tuple[str, ...], progress: Progress) -> None:
    """Prepare nodes for their removal from what this overlay runs; `xk8s scale` calls it for the
    overlays that depend on others first. If it fails, the nodes keep running.

    Example::

        @hookimpl
        def xk8s_leave(access: ClusterAccess, nodes: tuple[str, ...], progress: Progress) -> None:
            for node in nodes:
                access.run("vm-001", ["etcdctl", "member", "remove", node])
    """


@hookspec
def xk8s_checks(ctx: Context) -> Iterable[Check]:  # type: ignore[empty-body]
    """Return tests of the running cluster, in the order in which they should run.

    Example::

        @hookimpl
        def xk8s_checks(ctx: Context) -> Iterable[Check]:
            yield Check(name="web answers", run=check_web, timeout=60.0)
    """


@hookspec
def xk8s_faults() -> Iterable[Fault]:  # type: ignore[empty-body]
    """Return faults that this overlay knows, the most specific first: a line of a log counts for
    the first one that matches. They must not depend on the cluster: the reference page is generated
    from them.

    Example::

        @hookimpl
        def xk8s_faults() -> Iterable[Fault]:
            yield Fault(
                name="etcd-full",
                pattern="etcdserver: mvcc: database space exceeded",
                cause="etcd's store is full",
                remedy="give it more with -s etcd.size=1G",
                examples=("etcdserver: mvcc: database space exceeded",),
            )
    """


@hookspec
def xk8s_observe(ctx: Context) -> Iterable[Observation]:  # type: ignore[empty-body]
    """Return commands whose output `xk8s report` collects and searches for faults.

    Example::

        @hookimpl
        def xk8s_observe(ctx: Context) -> Iterable[Observation]:
            yield Observation(name="network/routes", argv=("ip", "route", "show", "table", "all"))
    """


@hookspec
def xk8s_log_files(ctx: Context) -> Iterable[LogFiles]:  # type: ignore[empty-body]
    """Return logs that belong neither to a systemd unit nor to the console, for `xk8s logs
    KIND/NAME`.

    Example::

        @hookimpl
        def xk8s_log_files(ctx: Context) -> Iterable[LogFiles]:
            yield LogFiles(
                kind="zone", directory="/var/log/named", paths=("/var/log/named/{name}.log",)
            )
    """
