"""Images that a plan wants on nodes that were booted with others: what `xk8s apply` loads."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from xk8s.context import ClusterAccess
from xk8s.progress import Progress

from xk8s_images.build import all_images
from xk8s_images.load import check, deliver, fetch, loader_of, nodes_of
from xk8s_images.loader import LoadableImage


def load_missing(access: ClusterAccess, progress: Progress) -> None:
    """Load the images of the cluster's plan that a node does not have, or has in another version.
    `MachineError` names images and nodes if one does not take it.
    """
    loader, nodes = loader_of(access), nodes_of(access, ())
    parcels = fetch(access, all_images(access.ctx), progress)
    with ThreadPoolExecutor(max_workers=len(nodes)) as pool:
        there = list(pool.map(lambda node: loader.listing(access, node), nodes))
    wanted = [parcel for parcel in parcels if not all(has(listing, parcel) for listing in there)]
    if wanted:
        progress.note(f"loading {', '.join(parcel.ref for parcel in wanted)}")
        check(deliver(access, wanted, nodes, progress))


def has(listing: Mapping[str, frozenset[str]], parcel: LoadableImage) -> bool:
    """Return whether exactly that image is among those of a node."""
    return not {parcel.digest, parcel.id}.isdisjoint(listing.get(parcel.ref, ()))
