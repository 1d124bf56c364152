"""The hooks of the overlay ``mconnect``."""

from __future__ import annotations

from collections.abc import Iterator

from xk8s import hookimpl
from xk8s.artifact_keys import artifact_key
from xk8s.context import Context
from xk8s.overlay import File, Fragment, Layer, Overlay, Role, Symlink, Take
from xk8s.render import render_text
from xk8s.sources import Artifact, DebPackage
from xk8s_images import Image, image_artifact
from xk8s_kubernetes import Manifest

from xk8s_mconnect.settings import PORT, MconnectSettings

IMAGE = "xk8s.local/mconnect:0.2"
_ROLES: frozenset[Role] = frozenset({"control-plane"})

BUSYBOX = Artifact(
    name="busybox-static",
    version="trixie",
    members=("busybox",),
    sources=(DebPackage(members={"busybox": ("busybox-static", "/usr/bin/busybox")}),),
)


def vips(ctx: Context) -> tuple[str, ...]:
    """Return the virtual addresses of the Service, by the cluster's IP family."""
    settings = ctx.settings(MconnectSettings)
    v4 = (settings.vip4,) if ctx.ipv4 else ()
    return v4 + ((settings.vip6,) if ctx.ipv6 else ())


_LISTEN = "-" + "l" * 128
SERVER = ("/bin/busybox", "nc", _LISTEN, "-p", str(PORT), "-e", "/bin/hostname")
"""busybox nc takes the number of its -l as the backlog of listen(2): with the usual -ll a burst of
clients overflows it, and one in some hundred connections hangs.
"""

_IMAGE = Image(
    ref=IMAGE,
    entries=(
        Take(artifact=BUSYBOX, member="busybox", path="/bin/busybox", mode=0o755),
        Symlink(path="/bin/hostname", target="busybox"),
        Symlink(path="/bin/sh", target="busybox"),
    ),
    # A process per connection says the pod's name and closes: no state, no queue.
    entrypoint=SERVER,
)


@hookimpl
def xk8s_overlay() -> Overlay:
    """Describe a Service whose pods say who they are."""
    return Overlay(
        summary="pods that answer with their name, and a client that counts them",
        requires=("kubernetes", "images"),
        settings=MconnectSettings,
    )


@hookimpl
def xk8s_fragments(ctx: Context) -> Iterator[Fragment]:
    """Return the image, and the manifest unless the user wants to apply it by hand."""
    yield Fragment(point="images.image", value=_IMAGE)
    if ctx.settings(MconnectSettings).apply:
        yield Fragment(
            point="kubernetes.manifest", value=Manifest(name="60-mconnect", yaml=_yaml(ctx))
        )


@hookimpl
def xk8s_layers(ctx: Context) -> Iterator[Layer]:
    """Return the manifest, where the seed's readers look for it."""
    yield Layer(
        name="mconnect",
        roles=_ROLES,
        entries=(File(path="/etc/kubernetes/mconnect.yaml", data=_yaml(ctx).encode()),),
    )


def _yaml(ctx: Context) -> str:
    settings = ctx.settings(MconnectSettings)
    return render_text(
        "xk8s_mconnect",
        "mconnect.yaml.j2",
        ctx,
        settings=settings,
        balanced=settings.service == "LoadBalancer",
        image=IMAGE,
        made_of=artifact_key(image_artifact(_IMAGE))[:16],
        port=PORT,
        vips=vips(ctx),
    )
