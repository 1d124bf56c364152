"""The overlay ``crio``: provides ``cri`` at unix:///run/cri.sock."""

from __future__ import annotations

from collections.abc import Iterator

from xk8s import hookimpl
from xk8s.context import ClusterAccess, Context
from xk8s.overlay import Check, Fragment, KernelNeeds, Layer, Observation, Overlay, Take
from xk8s.progress import Progress
from xk8s.render import render_tree
from xk8s_images import CONTAINER_NEEDS, PAUSE_REF, cri

from xk8s_crio.artifacts import STORE_IN_NODE, crio_artifact, store_artifact, unavailable
from xk8s_crio.checks import checks
from xk8s_crio.config import CONFIG, CONFIG_POINT, fragment_files
from xk8s_crio.observe import observations
from xk8s_crio.runtime import RUNTIME
from xk8s_crio.settings import CrioSettings


@hookimpl
def xk8s_overlay() -> Overlay:
    """Describe one of the container runtimes."""
    return Overlay(
        summary="CRI-O as container runtime, with images in a layer from the start",
        provides=("cri",),
        requires=("base", "images"),
        settings=CrioSettings,
        points={CONFIG_POINT: CONFIG},
    )


@hookimpl
def xk8s_unavailable(settings: CrioSettings, online: bool) -> str | None:
    """Allow it as the default if its programs are given or can be downloaded."""
    return unavailable(settings, online=online)


@hookimpl
def xk8s_fragments(ctx: Context) -> Iterator[Fragment]:  # noqa: ARG001
    """Return the image of pod sandboxes, and how `xk8s load image` puts others into a node."""
    return RUNTIME.fragments()


@hookimpl
def xk8s_kernel(ctx: Context) -> KernelNeeds:  # noqa: ARG001
    """Return what containers need: namespaces, cgroup controllers, overlayfs, seccomp and keys."""
    return CONTAINER_NEEDS


@hookimpl
def xk8s_layers(ctx: Context) -> Iterator[Layer]:
    """Programs, configuration, store: they change apart from each other."""
    settings = ctx.settings(CrioSettings)
    crio = crio_artifact(settings)
    return RUNTIME.layers(
        programs=(
            Take(artifact=crio, member=name, path=f"/usr/bin/{name}", mode=0o755)
            for name in crio.members
        ),
        config=(
            *render_tree(
                "xk8s_crio",
                "node",
                ctx,
                pause=PAUSE_REF,
                runtime=settings.runtime,
                cgroup_driver=settings.cgroup_driver,
                log_level=settings.log_level,
                store=STORE_IN_NODE,
            ),
            *fragment_files(ctx),
        ),
        store=store_artifact(ctx),
    )


@hookimpl
def xk8s_apply(access: ClusterAccess, progress: Progress) -> None:
    """A store that is used cannot be replaced: what is new in it is loaded."""
    cri.apply(access, progress)


@hookimpl
def xk8s_checks(ctx: Context) -> Iterator[Check]:
    """CRI-O runs and listens on every node."""
    return checks(ctx)


@hookimpl
def xk8s_observe(ctx: Context) -> Iterator[Observation]:
    """What the runtime has, where crictl is at hand to ask it."""
    return observations(ctx)
