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
    Symlink,
    Take,
)
from xk8s.progress import Progress
from xk8s.render import render_tree
from xk8s_images import CONTAINER_NEEDS, PAUSE_REF, Loader, all_images, pause_image

from xk8s_containerd.artifacts import (
    MEMBERS,
    STORE_LAYER,
    STORE_MEMBER,
    containerd_artifact,
    runtime_artifact,
    store_artifact,
)
from xk8s_containerd.config import CONFIG, CONFIG_POINT, with_fragments
from xk8s_containerd.load import listing, load
from xk8s_containerd.settings import ContainerdSettings

UNITS = "/usr/lib/systemd/system"
_UNITS = ("containerd.service",)


@hookimpl
def xk8s_overlay() -> Overlay:
    """One of the container runtimes."""
    return Overlay(
        summary="containerd 2 as container runtime, its images in a layer from the start",
        provides=("cri",),
        requires=("base", "images"),
        settings=ContainerdSettings,
        points={CONFIG_POINT: CONFIG},
    )


@hookimpl
def xk8s_fragments(ctx: Context) -> Iterable[Fragment]:  # noqa: ARG001
    """The image of pod sandboxes, and how `xk8s load image` puts others into a node."""
    yield Fragment(point="images.image", value=pause_image())
    yield Fragment(point="images.loader", value=Loader(load=load, listing=listing))


@hookimpl
def xk8s_kernel(ctx: Context) -> KernelNeeds:  # noqa: ARG001
    """What containers need: namespaces, cgroup controllers, overlayfs, seccomp and keys."""
    return CONTAINER_NEEDS


@hookimpl
def xk8s_layers(ctx: Context) -> Iterable[Layer]:
    """Programs, configuration, store: they change apart from each other."""
    settings = ctx.settings(ContainerdSettings)
    containerd, runtime = containerd_artifact(settings), runtime_artifact(settings)
    yield Layer(
        name="containerd",
        units=_UNITS,
        entries=(
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
        roles=NODE_ROLES,
    )
    yield Layer(
        name="containerd-config",
        units=_UNITS,
        entries=(
            *with_fragments(
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
            _enable("multi-user.target.wants", "containerd.service"),
            _enable("local-fs.target.requires", "var-lib-containerd.mount"),
            # What others order themselves by, whichever runtime it is.
            Symlink(path="/etc/systemd/system/cri.service", target=f"{UNITS}/containerd.service"),
        ),
        roles=NODE_ROLES,
    )
    store = store_artifact(ctx)
    yield Layer(
        name=STORE_LAYER,
        image=Take(artifact=store, member=STORE_MEMBER, path="/"),
        roles=NODE_ROLES,
        applied_by_hook=True,
    )


@hookimpl
def xk8s_apply(access: ClusterAccess, progress: Progress) -> None:
    """A store that is used cannot be replaced: what is new in it is loaded."""
    from xk8s_images.missing import load_missing  # slow to import, and a plan has no use for it

    load_missing(access, progress)


@hookimpl
def xk8s_checks(ctx: Context) -> Iterable[Check]:
    """Every image is in the store of every node, by its reference and complete."""
    wanted = {image.ref for image in all_images(ctx)}
    nodes = [node.name for node in ctx.by_role("control-plane", "worker")]

    def images_there(check: CheckContext) -> str:
        for node in nodes:
            listing = check.ok(node, "ctr", "-n", "k8s.io", "images", "check", "-q")
            missing = wanted - set(listing.split())
            if missing:
                raise NotYet(f"{node} lacks {', '.join(sorted(missing))}")
        return f"{len(wanted)} images on each of {len(nodes)} nodes"

    def log(check: CheckContext) -> str:
        return "\n".join(
            check.ok(
                node, "journalctl", "-u", "containerd", "-n", "30", "--no-pager", "-o", "short-iso"
            )
            for node in nodes
        )

    yield Check(name="containerd", run=images_there, timeout=300, explain=log)


@hookimpl
def xk8s_observe(ctx: Context) -> Iterable[Observation]:  # noqa: ARG001 - the same on all nodes
    """What the runtime has."""
    ctr = ("ctr", "-n", "k8s.io")
    for name, words in (
        ("images", (*ctr, "images", "ls")),
        ("containers", (*ctr, "containers", "ls")),
        ("tasks", (*ctr, "tasks", "ls")),
        ("version", ("ctr", "version")),
        ("plugins", ("ctr", "plugins", "ls")),
    ):
        yield Observation(name=f"cri/{name}", argv=words, roles=NODE_ROLES)


def _enable(where: str, unit: str) -> Symlink:
    return Symlink(path=f"/etc/systemd/system/{where}/{unit}", target=f"{UNITS}/{unit}")
