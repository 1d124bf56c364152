"""The image of pod sandboxes: catatonit, a static init of Debian that can also just wait."""

from __future__ import annotations

from xk8s.overlay import Take
from xk8s.sources import Artifact, DebPackage

from xk8s_images.image import Image

PAUSE_REF = "xk8s.local/pause:1"


def pause_image() -> Image:
    """Return what the overlays that provide ``cri`` contribute to ``images.image``."""
    catatonit = Artifact(
        name="catatonit",
        version="trixie",
        members=("catatonit",),
        sources=(DebPackage(members={"catatonit": ("catatonit", "/usr/bin/catatonit")}),),
    )
    return Image(
        ref=PAUSE_REF,
        entries=(Take(artifact=catatonit, member="catatonit", path="/pause", mode=0o755),),
        entrypoint=("/pause", "-P"),
    )
