"""What an overlay contributes to the point ``kubernetes.manifest``."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Manifest:
    """A YAML text (one or more documents) that is applied once the API server answers.
    ``name`` is unique and sorts the order within an overlay: ``50-coredns``.
    """

    name: str
    yaml: str
