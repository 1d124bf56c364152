"""Settings of the overlay ``mconnect``."""

from __future__ import annotations

import ipaddress
from typing import Literal

from attrs import frozen
from xk8s.overlay import setting

ServiceKind = Literal["externalIPs", "LoadBalancer"]


@frozen(kw_only=True)
class MconnectSettings:
    """Number of pods that answer, and their virtual addresses."""

    replicas: int = setting(4, "pods of the Deployment mconnect")
    vip4: str = setting("10.0.0.2", "external IPv4 address of the Service")
    vip6: str = setting("1000::2", "external IPv6 address of the Service")
    service: ServiceKind = setting(
        "externalIPs", "how it gets them: spec.externalIPs, or as a Service of type LoadBalancer"
    )
    apply: bool = setting(True, "apply the manifest at start; it is on the nodes in any case")

    def __attrs_post_init__(self) -> None:
        """Raise ValueError for what is not an address of its family."""
        try:
            ipaddress.IPv4Address(self.vip4)
            ipaddress.IPv6Address(self.vip6)
        except ValueError as error:
            raise ValueError(f"vip4 or vip6: {error}") from None


PORT = 5001
"""The port of nordix/mconnect, which the seed uses."""
