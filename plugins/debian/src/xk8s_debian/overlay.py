"""The hooks of overlay ``debian``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from xk8s import hookimpl
from xk8s.context import Context
from xk8s.overlay import (
    BootImage,
    Check,
    Fault,
    File,
    KernelFacts,
    Layer,
    Node,
    Observation,
    Overlay,
    Take,
)
from xk8s.sources import Artifact, Recipe

from xk8s_debian import base, identity, observe, sessions
from xk8s_debian.checks import checks
from xk8s_debian.config import config_layer
from xk8s_debian.faults import FAULTS
from xk8s_debian.initramfs import init_script
from xk8s_debian.kernel import BOOT_MODULES, recorded_facts
from xk8s_debian.settings import (
    BASE_PACKAGES,
    PACKAGES,
    PACKAGES_POINT,
    DebianSettings,
    check_package,
)

if TYPE_CHECKING:
    from xk8s.pki import Keys

KERNEL_ARGS = (
    "console=ttyS0",
    # eth0, eth1 … as the kernel counts; the nodes' .link files put them right by MAC.
    "net.ifnames=0",
    # A kernel that panics ends its QEMU, so that the host sees it.
    "panic=-1",
    # Warnings and worse reach the console; everything else is in the guest's journal.
    "loglevel=4",
    "systemd.show_status=auto",
    # No serial port but the console to look for, no policy to load, nobody to defend against
    # in a VM that one user throws away.
    "8250.nr_uarts=1",
    "lsm=landlock,yama,bpf",
    "audit=0",
    "mitigations=off",
    # Without KVM a busy host makes both cry wolf.
    "no_timer_check",
    "nowatchdog",
    # All devices reach all memory; that of the layers lies high, for which the kernel would set
    # 64 MiB aside.
    "swiotlb=noforce",
)


@hookimpl
def xk8s_overlay() -> Overlay:
    """Describe base system and kernel."""
    return Overlay(
        summary="Debian base system: packages, kernel, initramfs, network configuration",
        provides=("base",),
        settings=DebianSettings,
        points={PACKAGES_POINT: PACKAGES, identity.LEARNT_POINT: identity.LEARNT},
    )


def base_artifact(ctx: Context) -> Artifact:
    """Return the images of the root file system and the kernel's modules, and what belongs
    to them.
    """
    settings = ctx.settings(DebianSettings)
    wanted = (*BASE_PACKAGES, *settings.packages, *ctx.fragments(PACKAGES_POINT, str))
    packages = sorted({check_package(name) for name in wanted})
    return Artifact(
        name="debian-base",
        version=settings.suite,
        members=base.MEMBERS,
        sources=(
            Recipe(
                function="xk8s_debian.recipes:make_base",
                params={
                    "suite": settings.suite,
                    "packages": packages,
                    "kernel": settings.kernel,
                    "boot_modules": list(BOOT_MODULES),
                    "left_out": list(base.PATHS_LEFT_OUT),
                    "script": base.customize_script(),
                },
            ),
        ),
    )


def initramfs_artifact(ctx: Context) -> Artifact:
    """Return the initramfs, separate from the base: a change of /init must not rebuild that."""
    source = base_artifact(ctx)
    return Artifact(
        name="debian-initramfs",
        version=source.version,
        members=("initramfs.img",),
        sources=(
            Recipe(
                function="xk8s_debian.recipes:make_initramfs",
                params={"init": init_script()},
                inputs=(source,),
            ),
        ),
    )


@hookimpl
def xk8s_layers(ctx: Context) -> Iterable[Layer]:
    """Return root file system, modules and configuration."""
    source = base_artifact(ctx)
    for name, member in (("debian-base", "base.erofs"), ("debian-modules", "modules.erofs")):
        yield Layer(name=name, image=Take(artifact=source, member=member, path="/"))
    yield config_layer(ctx)


@hookimpl
def xk8s_kernel_facts(ctx: Context) -> KernelFacts:  # noqa: ARG001 - the table fits all settings
    """Return the recorded table of the suite's cloud kernel."""
    return recorded_facts()


@hookimpl
def xk8s_boot_image(ctx: Context) -> BootImage:
    """Return kernel, initramfs, and arguments that suit a VM with or without KVM."""
    return BootImage(
        kernel=Take(artifact=base_artifact(ctx), member="kernel.img", path="/kernel.img"),
        initramfs=Take(
            artifact=initramfs_artifact(ctx), member="initramfs.img", path="/initramfs.img"
        ),
        kernel_args=KERNEL_ARGS,
        template=True,
    )


@hookimpl
def xk8s_node_files(ctx: Context, node: Node) -> Iterable[File]:
    """Return name, addresses and routes."""
    return identity.node_files(ctx, node)


@hookimpl
def xk8s_secrets(ctx: Context, node: Node, keys: Keys) -> Iterable[File]:  # noqa: ARG001
    """Return the key of the SSH server, and whom it lets in."""
    return sessions.secrets(keys)


@hookimpl
def xk8s_checks(ctx: Context) -> Iterable[Check]:
    """Check the nodes' addresses."""
    return checks(ctx)


@hookimpl
def xk8s_observe(ctx: Context) -> Iterable[Observation]:  # noqa: ARG001 - the same on all nodes
    """Return the state of the system, its network and its journal."""
    return list(observe.observations())


@hookimpl
def xk8s_faults() -> Iterable[Fault]:
    """Return faults of missing programs, files and modules."""
    return FAULTS
