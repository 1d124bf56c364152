"""The overlay ``containerd``: provides ``cri`` at unix:///run/cri.sock."""

from __future__ import annotations

from collections.abc import Iterable

from xk8s import hookimpl
from xk8s.checks import CheckContext, NotYet
from xk8s.context import ClusterAccess, Context
from xk8s.overlay import (
    NODE_ROLES,
    Check,
    Fragment,
    KernelNeeds,
    Layer,
    Observation,
    Overlay,
    Take,
)
from xk8s.progress import Progress
from xk8s.render import render_tree
from xk8s_images import CONTAINER_NEEDS, PAUSE_REF, Loader, all_images, cri

from xk8s_containerd.artifacts import (
    MEMBERS,
    containerd_artifact,
    runtime_artifact,
    store_artifact,
)
from xk8s_containerd.config import CONFIG, CONFIG_POINT, with_fragments
from xk8s_containerd.load import listing, load
from xk8s_containerd.settings import ContainerdSettings

RUNTIME = cri.ContainerRuntime(
    name="containerd",
    socket="/run/containerd/containerd.sock",
    mounts=("var-lib-containerd.mount",),
    loader=Loader(load=load, listing=listing),
)


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
    wanted = {image.ref for image in all_images(ctx)}
    nodes = [node.name for node in ctx.by_role("control-plane", "worker")]

    def images_there(check: CheckContext) -> str:
        for node in nodes:
            listing = check.ok(node, "ctr", "-n", "k8s.io", "images", "check", "-q")
            missing = wanted - set(listing.split())
            if missing:
                raise NotYet(f"{node} lacks {', '.join(sorted(missing))}")
        return f"{len(wanted)} images on each of {len(nodes)} nodes"

    yield Check(name="containerd", run=images_there, timeout=300, explain=RUNTIME.explain)


@hookimpl
def xk8s_observe(ctx: Context) -> Iterable[Observation]:  # noqa: ARG001 - the same on all nodes
    """Return the runtime's images and containers."""
    ctr = ("ctr", "-n", "k8s.io")
    for name, words in (
        ("images", (*ctr, "images", "ls")),
        ("containers", (*ctr, "containers", "ls")),
        ("tasks", (*ctr, "tasks", "ls")),
        ("version", ("ctr", "version")),
        ("plugins", ("ctr", "plugins", "ls")),
    ):
        yield Observation(name=f"cri/{name}", argv=words, roles=NODE_ROLES)
