"""What hooks are called with, made by hand: for tests of one overlay's hooks, without a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xk8s.context import Context, IpFamily
from xk8s.names.core_settings import ClusterSettings
from xk8s.overlay import Fragment
from xk8s.planning import topology


def context_of(
    overlays: str | tuple[str, ...],
    *settings: object,
    family: IpFamily = "ipv4",
    fragments: Mapping[str, Sequence[object]] | None = None,
    **cluster: Any,
) -> Context:
    """Return the context of a cluster of these overlays: two nodes and a router, where ``cluster``
    (core settings by name: ``nodes=3, mtu=9000``) does not say otherwise. ``settings`` are those of
    the overlays, ``fragments`` the values that each extension point got.
    """
    chosen = ClusterSettings(ip_family=family, **cluster)
    return Context(
        cluster="test",
        ip_family=family,
        overlays=(overlays,) if isinstance(overlays, str) else overlays,
        networks=topology.networks(chosen),
        nodes=topology.nodes(chosen),
        all_settings={type(value): value for value in settings},
        all_fragments={
            point: tuple(Fragment(point=point, value=value) for value in values)
            for point, values in (fragments or {}).items()
        },
    )
