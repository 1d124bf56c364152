"""Values that overlays contribute to the point ``images.image``."""

from __future__ import annotations

from attrs import frozen
from xk8s.overlay import Entry
from xk8s.sources import OciImage, Recipe


@frozen(kw_only=True)
class Image:
    """A container image: built locally from ``entries`` (files of the image's root file system),
    or, if ``source`` is given, taken from a registry or made by a recipe (whose member "oci" is an
    OCI layout directory that names the image by ``ref``).

    ``ref`` is the full reference that pods use, e.g. ``xk8s.local/coredns:1.15.0``.
    """

    ref: str
    entries: tuple[Entry, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    source: OciImage | Recipe | None = None
