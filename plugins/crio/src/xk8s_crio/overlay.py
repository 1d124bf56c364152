"""The overlay ``crio``: provides ``cri`` at unix:///run/cri.sock."""

from __future__ import annotations

from collections.abc import Iterator

from xk8s import hookimpl
from xk8s.checks import CheckContext
from xk8s.context import Context
from xk8s.overlay import (
    NODE_ROLES,
    Check,
    Fragment,
    KernelNeeds,
    Layer,
    Overlay,
    Symlink,
    Take,
)
from xk8s.render import render_tree
from xk8s_images import CONTAINER_NEEDS, PAUSE_REF, Loader, pause_image

from xk8s_crio.artifacts import (
    MEMBERS,
    STORE_IN_NODE,
    STORE_LAYER,
    STORE_MEMBER,
    crictl_artifact,
    crio_artifact,
    helper_artifact,
    store_artifact,
    unavailable,
)
from xk8s_crio.load import load
from xk8s_crio.settings import CrioSettings

UNITS = "/usr/lib/systemd/system"


@hookimpl
def xk8s_overlay() -> Overlay:
    """One of the container runtimes."""
    return Overlay(
        summary="CRI-O as container runtime, its images in a layer from the start",
        provides=("cri",),
        requires=("base", "images"),
        settings=CrioSettings,
    )


@hookimpl
def xk8s_unavailable(settings: CrioSettings) -> str | None:
    """By default only where its programs are at hand."""
    return unavailable(settings)


@hookimpl
def xk8s_fragments(ctx: Context) -> Iterator[Fragment]:  # noqa: ARG001
    """The image of pod sandboxes, and how `xk8s load image` puts others into a node."""
    yield Fragment(point="images.image", value=pause_image())
    yield Fragment(point="images.loader", value=Loader(load=load))


@hookimpl
def xk8s_kernel(ctx: Context) -> KernelNeeds:  # noqa: ARG001
    """What containers need: namespaces, cgroup controllers, overlayfs, seccomp and keys."""
    return CONTAINER_NEEDS


@hookimpl
def xk8s_layers(ctx: Context) -> Iterator[Layer]:
    """Programs, configuration, store: they change apart from each other."""
    settings = ctx.settings(CrioSettings)
    crio = crio_artifact(settings)
    programs = dict.fromkeys(MEMBERS, crio)
    programs |= {name: helper_artifact(settings, name) for name in ("conmon", settings.runtime)}
    if crictl := crictl_artifact(settings):
        programs["crictl"] = crictl
    yield Layer(
        name="crio",
        entries=tuple(
            Take(artifact=artifact, member=name, path=f"/usr/bin/{name}", mode=0o755)
            for name, artifact in programs.items()
        ),
        roles=NODE_ROLES,
    )
    yield Layer(
        name="crio-config",
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
    )


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
            check.ok(node, "journalctl", "-u", "crio", "-n", "30", "--no-pager", "-o", "cat")
            for node in nodes
        )

    yield Check(name="crio", run=running, timeout=180, explain=log)


def _enable(where: str, unit: str) -> Symlink:
    return Symlink(path=f"/etc/systemd/system/{where}/{unit}", target=f"{UNITS}/{unit}")
