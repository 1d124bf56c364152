"""Loading images into the nodes of a running cluster, all nodes at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from attrs import evolve, frozen
from xk8s.addresses import HOST_PART, address
from xk8s.artifact_keys import artifact_key
from xk8s.context import ClusterAccess
from xk8s.errors import MachineError, StateError, Xk8sError
from xk8s.progress import Progress

from xk8s_images.build import image_artifact
from xk8s_images.image import Image
from xk8s_images.layout import config_digest, manifest_of
from xk8s_images.loader import POINT, Delivery, LoadableImage, Loader, ServerPort
from xk8s_images.serve import ServedImage, serving

GATEWAY = address(0, HOST_PART)
"""Address at which a node finds the server: the bridge of its interface eth0."""

_TRY = "5"
"""Seconds for a first request, which goes no further than this machine."""


@frozen(kw_only=True)
class Outcome:
    """Result of one image on one node. ``seconds`` is how long it took."""

    node: str
    parcel: LoadableImage
    seconds: float
    error: Xk8sError | None = None


def loader_of(access: ClusterAccess) -> Loader:
    """Return how the nodes of this cluster take images; `StateError` if they do not."""
    found = access.ctx.fragments(POINT, Loader)
    if not found:
        raise StateError(
            f"cluster {access.name!r} has no container runtime that can load images",
            where=f"overlays {', '.join(access.ctx.overlays)}",
            hint="name an overlay that provides 'cri': `xk8s overlays` lists what is installed",
        )
    return found[0]


def nodes_of(access: ClusterAccess, wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the nodes to which images go; `StateError` for one that runs no containers."""
    nodes = tuple(node.name for node in access.ctx.by_role("control-plane", "worker"))
    for name in wanted:
        if name not in nodes:
            raise StateError(
                f"cluster {access.name!r} has no node {name!r} that runs containers",
                hint=f"it has {', '.join(nodes)}",
            )
    return tuple(dict.fromkeys(wanted)) or nodes


def fetch(
    access: ClusterAccess, images: Sequence[Image], progress: Progress
) -> tuple[LoadableImage, ...]:
    """Return the images as layouts, from the cache or made now. Errors are those of the store."""
    artifacts = [image_artifact(image) for image in images]
    found = access.fetch(artifacts, progress)
    layouts = [found[artifact_key(artifact)] / "oci" for artifact in artifacts]
    return tuple(
        LoadableImage(
            ref=image.ref,
            layout=layout,
            digest=str(manifest_of(layout)["digest"]),
            id=config_digest(layout),
        )
        for image, layout in zip(images, layouts, strict=True)
    )


def deliver(
    access: ClusterAccess,
    parcels: Sequence[LoadableImage],
    nodes: Sequence[str],
    progress: Progress,
) -> tuple[Outcome, ...]:
    """Load every image into every node; one outcome each, whether it succeeded or not."""
    loader = loader_of(access)
    offers = [ServedImage(ref=parcel.ref, layout=parcel.layout) for parcel in parcels]
    total = sum(size(parcel) for parcel in parcels)
    with (
        serving(offers, nodes, access.listen()) as registry,
        watching(registry.doors, total, progress) as said,
    ):

        def serve(node: str) -> list[Outcome]:
            said(node, "looking for a route to it")
            try:
                door = _reached(access, node, registry.doors[node], progress)
                delivery = Delivery(
                    access=access,
                    node=node,
                    parcel=parcels[0],
                    door=door,
                    gateway=GATEWAY,
                    say=lambda text: said(node, text),
                )
                return [_one(loader, evolve(delivery, parcel=parcel)) for parcel in parcels]
            except Xk8sError as error:  # no answer at all
                return [
                    Outcome(node=node, parcel=parcel, seconds=0.0, error=error)
                    for parcel in parcels
                ]
            finally:
                progress.finish(node)

        with ThreadPoolExecutor(max_workers=len(nodes)) as pool:
            try:
                return tuple(outcome for outcomes in pool.map(serve, nodes) for outcome in outcomes)
            except BaseException:
                registry.refuse()  # the nodes' programs fail then, and their threads end
                raise


def check(outcomes: Sequence[Outcome]) -> None:
    """Raise `MachineError` that names the nodes and images that failed, with the first log."""
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if not failed:
        return
    good = sorted({outcome.node for outcome in outcomes} - {outcome.node for outcome in failed})
    lines = [f"{outcome.node}: {outcome.parcel.ref}: {outcome.error}" for outcome in failed]
    first = failed[0].error
    assert first is not None
    rest = f"; it is in {_listed(set(good))}" if good else ""
    raise MachineError(
        f"the image could not be loaded into {_listed({outcome.node for outcome in failed})}{rest}",
        where="; ".join(lines),
        hint=first.hint or "`xk8s logs NODE cri` may say more",
        log=first.log,
    )


def size(parcel: LoadableImage) -> int:
    """Return the bytes of an image as it is transferred."""
    return sum(blob.stat().st_size for blob in (parcel.layout / "blobs" / "sha256").iterdir())


# --- parts ------------------------------------------------------------------------------


@contextmanager
def watching(
    doors: Mapping[str, ServerPort], total: int, progress: Progress
) -> Iterator[Callable[[str, str], None]]:
    """Show for each node what it does, and how many of the bytes it has received."""
    texts: dict[str, str] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            for node, text in list(texts.items()):
                progress.item(node, text, done=min(doors[node].sent, total), total=total)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield texts.__setitem__
    finally:
        over.set()
        thread.join()


def _one(loader: Loader, delivery: Delivery) -> Outcome:
    begin = time.monotonic()
    error: Xk8sError | None = None
    try:
        loader.load(delivery)
    except Xk8sError as caught:
        error = caught
    return Outcome(
        node=delivery.node, parcel=delivery.parcel, seconds=time.monotonic() - begin, error=error
    )


def _reached(
    access: ClusterAccess, node: str, door: ServerPort, progress: Progress
) -> ServerPort | None:
    """Return the door, if this machine is reachable through the node's management network."""
    url = f"http://{GATEWAY}:{door.port}/v2/"
    argv = ("curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", _TRY, url)
    try:
        result = access.run(node, argv, timeout=60.0)
    except TimeoutError as error:
        raise MachineError(str(error), where=node, hint=f"xk8s console {node}") from error
    if result.exit_code == 0:
        return door
    said = result.stderr.decode(errors="replace").strip()
    progress.note(f"{node}: this machine is unreachable through its management network ({said})")
    return None


def _listed(names: set[str]) -> str:
    return " and ".join(sorted(names))
