"""Settings of the overlay ``multinet``."""

from __future__ import annotations

from attrs import frozen
from xk8s.limits import between, matching, table
from xk8s.overlay import setting


@frozen(kw_only=True)
class MultinetSettings:
    """The networks that pods can request."""

    networks: dict[str, int] = setting(
        {"net2": 2},
        "names for pods' annotations: NAME=N is a macvlan on the nodes' interface on network N",
        limit=table(matching(r"\S{1,63}", "a name"), between(0, 250)),
    )
