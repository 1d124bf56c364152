"""The overlay ``images``: collects container images; the one that provides ``cri`` bakes them."""

from __future__ import annotations

from xk8s import hookimpl
from xk8s.overlay import Overlay

from xk8s_images.points import POINTS
from xk8s_images.settings import ImagesSettings


@hookimpl
def xk8s_overlay() -> Overlay:
    """Describe images by fragment or by setting; it has no layer of its own."""
    return Overlay(
        summary="container images, pre-pulled or built here, in the nodes' stores from the start",
        requires=("base",),
        settings=ImagesSettings,
        points=POINTS,
    )
