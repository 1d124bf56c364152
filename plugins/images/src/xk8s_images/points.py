"""The named points to which other overlays may contribute fragments."""

from __future__ import annotations

from collections.abc import Mapping

from xk8s.context import ClusterAccess
from xk8s.overlay import File, Point

from xk8s_images import build, loader
from xk8s_images.image import Image
from xk8s_images.loader import Delivery, Loader


def _sets(image: Image) -> Mapping[str, Image]:
    return {f"the image {image.ref}": image}


def _load(delivery: Delivery) -> None:
    delivery.write("/run/image.tar", b"")


def _listing(access: ClusterAccess, node: str) -> Mapping[str, frozenset[str]]:
    names = access.run(node, ["list-images"]).stdout.decode().split()
    return {name: frozenset({name.partition("@")[2]}) for name in names}


POINTS: Mapping[str, Point] = {
    build.POINT: Point(
        type=Image,
        help="An image for the stores of all nodes; one reference has one content.",
        example=Image(
            ref="example.com/hello:1",
            entries=(File(path="/hello", data=b"#!/bin/sh\n", mode=0o755),),
            entrypoint=("/hello",),
        ),
        sets=_sets,
    ),
    loader.POINT: Point(
        type=Loader,
        help="How a container runtime takes an image while the cluster runs (`xk8s load image`): "
        "given by the overlay that provides `cri`.",
        example=Loader(load=_load, listing=_listing),
        sets=lambda value: {"how images are loaded": value},
    ),
}
