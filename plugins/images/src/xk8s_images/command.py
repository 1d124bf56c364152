"""``xk8s load image``: load an image into the nodes of a running cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from xk8s.verbs import (
    Session,
    cluster_option,
    complete_nodes,
    echo,
    json_option,
    pass_session,
    print_json,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xk8s.progress import Progress

    from xk8s_images.image import Image
    from xk8s_images.load import Outcome


@click.group(short_help="Load images into the nodes of a running cluster.")
def command() -> None:
    """Load images into the nodes of a running cluster, without restarting it."""


@command.command("image")
@click.argument("refs", nargs=-1, metavar="[REF]...")
@click.option(
    "--build", "builds", multiple=True, metavar="REF=DIR",
    help="Build the image REF from the files in DIR; may be repeated.",
)  # fmt: skip
@click.option(
    "--node", "nodes", multiple=True, metavar="NODE", shell_complete=complete_nodes,
    help="Only into this node; may be repeated.",
)  # fmt: skip
@click.option("--pull", is_flag=True, help="Ask the registries what the tags refer to now.")
@json_option
@cluster_option
@pass_session
def image(
    session: Session,
    refs: tuple[str, ...],
    builds: tuple[str, ...],
    nodes: tuple[str, ...],
    pull: bool,
    as_json: bool,
) -> None:
    """Load images into the container stores of all nodes, for pods started from now on.

    REF is what the setting images.refs takes: a reference of a registry, oci:DIR[:REF],
    oci-archive:FILE[:REF], docker-archive:FILE[:REF], docker-daemon:REF or containers-storage:REF.
    A pod must not insist on pulling: use imagePullPolicy IfNotPresent (Kubernetes' default, except
    for the tag latest) or Never.

    The images stay until `down`, and are in snapshots that are saved later. Exit code 8 if one
    could not be loaded into every node.
    """
    from xk8s_images import load

    wanted = images(refs, builds)
    cluster = session.cluster()
    load.loader_of(cluster)
    chosen = load.nodes_of(cluster, nodes)
    with session.progress() as progress:
        with progress.stage("images"):
            if pull and update(session, wanted, progress):
                wanted = images(refs, builds)
            parcels = load.fetch(cluster, wanted, progress)
        # No snapshot meanwhile: it breaks the nodes' connections to this machine.
        with progress.stage("load"), session.locked():
            # Opened again: a save meanwhile would have given the nodes other sockets.
            outcomes = load.deliver(session.cluster(), parcels, chosen, progress)
    show(outcomes, as_json=as_json)
    load.check(outcomes)


def images(refs: Sequence[str], builds: Sequence[str]) -> list[Image]:
    """Return the images that the command line names; `UsageError` if there are none, or two with
    the same name.
    """
    from xk8s.errors import UsageError

    from xk8s_images.settings import ImagesSettings, images_of, pin_build, pin_refs

    pairs = {}
    for text in builds:
        ref, equals, directory = text.partition("=")
        if not (ref and equals and directory):
            raise UsageError(f"--build {text!r} is not REF=DIR")
        if ref in pairs:
            raise UsageError(f"two of the images are called {ref}")
        pairs[ref] = directory
    settings = ImagesSettings(refs=pin_refs(refs), build=pin_build(pairs))
    found = list(images_of(settings))
    if not found:
        raise UsageError("no image is named", hint="give a REF, or --build REF=DIR")
    names = [wanted_image.ref for wanted_image in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"two of the images are called {', '.join(sorted(twice))}")
    return found


def update(session: Session, wanted: Sequence[Image], progress: Progress) -> bool:
    """Ask what the tags refer to now; return whether one has moved."""
    from xk8s_images.build import image_artifact

    return session.update_tags([image_artifact(image) for image in wanted], progress)


def show(outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    """Print a line, or an object, for each image on each node."""
    from xk8s_images.load import size

    if as_json:
        print_json(
            [
                {
                    "node": outcome.node,
                    "image": outcome.parcel.ref,
                    "digest": outcome.parcel.digest,
                    "id": outcome.parcel.id,
                    "bytes": size(outcome.parcel),
                    "seconds": round(outcome.seconds, 2),
                    "ok": outcome.error is None,
                    "error": str(outcome.error) if outcome.error else "",
                }
                for outcome in outcomes
            ]
        )
        return
    for outcome in outcomes:
        mark = "FAIL" if outcome.error else "ok  "
        said = f": {outcome.error}" if outcome.error else f" ({outcome.seconds:.1f} s)"
        echo(f"{mark} {outcome.node} {outcome.parcel.ref}{said}")
