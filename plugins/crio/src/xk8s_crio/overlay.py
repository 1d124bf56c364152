"""The overlay ``crio``: provides ``cri`` at unix:///run/cri.sock."""

from __future__ import annotations

from collections.abc import Iterator

from xk8s import hookimpl
from xk8s.checks import CheckContext
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
from xk8s_images import CONTAINER_NEEDS, PAUSE_REF, Loader, pause_image

from xk8s_crio.artifacts import (
    STORE_IN_NODE,
    STORE_LAYER,
    STORE_MEMBER,
    crio_artifact,
    store_artifact,
    unavailable,
)
from xk8s_crio.config import CONFIG, CONFIG_POINT, fragment_files
from xk8s_crio.load import listing, load
from xk8s_crio.settings import CrioSettings

UNITS = "/usr/lib/systemd/system"
_UNITS = ("crio.service",)


@hookimpl
def xk8s_overlay() -> Overlay:
    """One of the container runtimes."""
    return Overlay(
        summary="CRI-O as container runtime, its images in a layer from the start",
        provides=("cri",),
        requires=("base", "images"),
        settings=CrioSettings,
        points={CONFIG_POINT: CONFIG},
    )


@hookimpl
def xk8s_unavailable(settings: CrioSettings, online: bool) -> str | None:
    """The default where its programs are at hand or can be downloaded."""
    return unavailable(settings, online=online)


@hookimpl
def xk8s_fragments(ctx: Context) -> Iterator[Fragment]:  # noqa: ARG001
    """The image of pod sandboxes, and how `xk8s load image` puts others into a node."""
    yield Fragment(point="images.image", value=pause_image())
    yield Fragment(point="images.loader", value=Loader(load=load, listing=listing))


@hookimpl
def xk8s_kernel(ctx: Context) -> KernelNeeds:  # noqa: ARG001
    """What containers need: namespaces, cgroup controllers, overlayfs, seccomp and keys."""
    return CONTAINER_NEEDS


@hookimpl
def xk8s_layers(ctx: Context) -> Iterator[Layer]:
    """Programs, configuration, store: they change apart from each other."""
    settings = ctx.settings(CrioSettings)
    crio = crio_artifact(settings)
    yield Layer(
        name="crio",
        units=_UNITS,
        entries=tuple(
            Take(artifact=crio, member=name, path=f"/usr/bin/{name}", mode=0o755)
            for name in crio.members
        ),
        roles=NODE_ROLES,
    )
    yield Layer(
        name="crio-config",
        units=_UNITS,
        entries=(
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
            _enable("multi-user.target.wants", "crio.service"),
            _enable("local-fs.target.requires", "var-lib-containers.mount"),
            # What others order themselves by, whichever runtime it is.
            Symlink(path="/etc/systemd/system/cri.service", target=f"{UNITS}/crio.service"),
        ),
        roles=NODE_ROLES,
    )
    yield Layer(
        name=STORE_LAYER,
        image=Take(artifact=store_artifact(ctx), member=STORE_MEMBER, path="/"),
        roles=NODE_ROLES,
        applied_by_hook=True,
    )


@hookimpl
def xk8s_apply(access: ClusterAccess, progress: Progress) -> None:
    """A store that is used cannot be replaced: what is new in it is loaded."""
    from xk8s_images.missing import load_missing  # slow to import, and a plan has no use for it

    load_missing(access, progress)


@hookimpl
def xk8s_checks(ctx: Context) -> Iterator[Check]:
    """CRI-O runs and listens on every node."""
    nodes = [node.name for node in ctx.by_role("control-plane", "worker")]

    def running(check: CheckContext) -> str:
        for node in nodes:
            check.ok(node, "systemctl", "is-active", "crio.service")
            check.ok(node, "test", "-S", "/run/cri.sock")
        return f"active on each of {len(nodes)} nodes"

    def log(check: CheckContext) -> str:
        return "\n".join(
            check.ok(node, "journalctl", "-u", "crio", "-n", "30", "--no-pager", "-o", "short-iso")
            for node in nodes
        )

    yield Check(name="crio", run=running, timeout=300, explain=log)


@hookimpl
def xk8s_observe(ctx: Context) -> Iterator[Observation]:
    """What the runtime has, where crictl is at hand to ask it."""
    yield Observation(name="cri/version", argv=("crio", "--version"), roles=NODE_ROLES)
    if "crictl" not in crio_artifact(ctx.settings(CrioSettings)).members:
        return
    for name, words in (
        ("images", ("images",)),
        ("pods", ("pods",)),
        ("containers", ("ps", "-a")),
        ("info", ("info",)),
    ):
        yield Observation(name=f"cri/{name}", argv=("crictl", *words), roles=NODE_ROLES)


def _enable(where: str, unit: str) -> Symlink:
    return Symlink(path=f"/etc/systemd/system/{where}/{unit}", target=f"{UNITS}/{unit}")
