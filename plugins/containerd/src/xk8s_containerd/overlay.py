"""The overlay ``containerd``: provides ``cri`` at unix:///run/cri.sock."""

from __future__ import annotations

from collections.abc import Iterable

from xk8s import hookimpl
from xk8s.context import ClusterAccess, Context
from xk8s.overlay import Check, Fragment, KernelNeeds, Layer, Observation, Overlay, Take
from xk8s.progress import Progress
from xk8s.render import render_tree
from xk8s_images import CONTAINER_NEEDS, PAUSE_REF, cri

from xk8s_containerd.artifacts import containerd_artifact, runtime_artifact, store_artifact
from xk8s_containerd.checks import checks
from xk8s_containerd.config import CONFIG, CONFIG_POINT, with_fragments
from xk8s_containerd.observe import observations
from xk8s_containerd.runtime import RUNTIME
from xk8s_containerd.settings import MEMBERS, ContainerdSettings


@hookimpl
def xk8s_overlay() -> Overlay:
    """Describe one of the container runtimes."""
    return Overlay(
        summary="containerd 2 as container runtime, with images in a layer from the start",
        provides=("cri",),
        requires=("base", "images"),
        settings=ContainerdSettings,
        points={CONFIG_POINT: CONFIG},
    )


@hookimpl
def xk8s_fragments(ctx: Context) -> Iterable[Fragment]:  # noqa: ARG001
    """Return the image of pod sandboxes, and how `xk8s load image` puts others into a node."""
    return RUNTIME.fragments()


@hookimpl
def xk8s_kernel(ctx: Context) -> KernelNeeds:  # noqa: ARG001
    """Return what containers need: namespaces, cgroup controllers, overlayfs, seccomp and keys."""
    return CONTAINER_NEEDS


@hookimpl
def xk8s_layers(ctx: Context) -> Iterable[Layer]:
    """Return programs, configuration and store, which change independently."""
    settings = ctx.settings(ContainerdSettings)
    containerd, runtime = containerd_artifact(settings), runtime_artifact(settings)
    return RUNTIME.layers(
        programs=(
            *(
                Take(artifact=containerd, member=m, path=f"/usr/bin/{m}", mode=0o755)
                for m in MEMBERS
            ),
            Take(
                artifact=runtime,
                member=settings.runtime,
                path=f"/usr/bin/{settings.runtime}",
                mode=0o755,
            ),
        ),
        config=with_fragments(
            ctx,
            render_tree(
                "xk8s_containerd",
                "node",
                ctx,
                pause=PAUSE_REF,
                runtime=settings.runtime,
                cgroup_driver=settings.cgroup_driver,
                log_level=settings.log_level,
            ),
        ),
        store=store_artifact(ctx),
    )


@hookimpl
def xk8s_apply(access: ClusterAccess, progress: Progress) -> None:
    """Load what is new: a store in use cannot be replaced."""
    cri.apply(access, progress)


@hookimpl
def xk8s_checks(ctx: Context) -> Iterable[Check]:
    """Check that every image is in the store of every node, by its reference and complete."""
    return checks(ctx)


@hookimpl
def xk8s_observe(ctx: Context) -> Iterable[Observation]:  # noqa: ARG001 - the same on all nodes
    """Return the runtime's images and containers."""
    return observations()
