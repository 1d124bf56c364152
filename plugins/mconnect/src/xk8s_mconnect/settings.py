"""Settings of the overlay ``mconnect``."""

from __future__ import annotations

from typing import Literal

from attrs import frozen
from xk8s.limits import address, between
from xk8s.overlay import setting

ServiceKind = Literal["externalIPs", "LoadBalancer"]


@frozen(kw_only=True)
class MconnectSettings:
    """Number of pods that answer, and their virtual addresses."""

    replicas: int = setting(4, "pods of the Deployment mconnect", limit=between(1, 1000))
    vip4: str = setting("10.0.0.2", "external IPv4 address of the Service", limit=address(4))
    vip6: str = setting("1000::2", "external IPv6 address of the Service", limit=address(6))
    service: ServiceKind = setting(
        "externalIPs", "how it gets them: spec.externalIPs, or as a Service of type LoadBalancer"
    )
    apply: bool = setting(True, "apply the manifest at start; it is on the nodes in any case")


PORT = 5001
"""The port of nordix/mconnect, which the seed uses."""
