"""Container images that are baked into the nodes: nothing is pulled or imported at boot."""

from __future__ import annotations

from xk8s_images.build import all_images, image_artifact, image_artifacts, image_ref
from xk8s_images.image import Image
from xk8s_images.kernel import CONTAINER_NEEDS
from xk8s_images.loader import Delivery, LoadableImage, Loader, ServerPort
from xk8s_images.pause import PAUSE_REF, pause_image
from xk8s_images.settings import ImagesSettings

__all__ = [
    "CONTAINER_NEEDS",
    "PAUSE_REF",
    "Delivery",
    "Image",
    "ImagesSettings",
    "LoadableImage",
    "Loader",
    "ServerPort",
    "all_images",
    "image_artifact",
    "image_artifacts",
    "image_ref",
    "pause_image",
]
