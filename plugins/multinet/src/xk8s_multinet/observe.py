"""What a report collects about multinet."""

from __future__ import annotations

from collections.abc import Iterator

from xk8s.overlay import NODE_ROLES, Observation

from xk8s_multinet.networks import STATE_DIR


def observations() -> Iterator[Observation]:
    """What was attached to which pod."""
    argv = ("find", f"{STATE_DIR}/results", f"{STATE_DIR}/addresses", "-type", "f")
    yield Observation(name="multinet/attached", argv=argv, roles=NODE_ROLES)
