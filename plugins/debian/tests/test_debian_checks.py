"""The base system's checks, against listings that iproute2 of Debian 13 printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from attrs import define
from xk8s.checks import CheckContext, NotYet
from xk8s.context import Context, ExecResult
from xk8s.names.core_settings import ClusterSettings
from xk8s.overlay import Node
from xk8s.planning import topology
from xk8s_debian import overlay
from xk8s_debian.checks import missing

BEFORE = """\
1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever preferred_lft forever
1: lo    inet6 ::1/128 scope host noprefixroute \\       valid_lft forever preferred_lft forever
2: eth0    inet 192.168.0.2/24 brd 192.168.0.255 scope global eth0\\       valid_lft forever
2: eth0    inet6 fec0::2/64 scope site \\       valid_lft forever preferred_lft forever
"""
AFTER = (
    BEFORE
    + """\
3: eth1    inet 192.168.1.2/24 brd 192.168.1.255 scope global eth1\\       valid_lft forever
3: eth1    inet6 1000::1:c0a8:102/120 scope global \\       valid_lft forever preferred_lft forever
"""
)


def cluster(family: str) -> tuple[Context, Node]:
    """A cluster and its one worker."""
    settings = ClusterSettings(nodes=2, routers=0)
    (worker,) = (node for node in topology.nodes(settings) if node.name == "vm-002")
    ctx = Context(
        cluster="test",
        ip_family=family,  # type: ignore[arg-type]
        overlays=("debian",),
        networks=topology.networks(settings),
        nodes=(worker,),
        all_settings={},
    )
    return ctx, worker


@define
class Guests:
    """A cluster whose worker prints its listings one after the other."""

    listings: list[str]

    def run(self, node: str, argv: Sequence[str], **_: Any) -> ExecResult:
        assert tuple(argv) == ("ip", "-o", "address")
        assert node == "vm-002"
        text = self.listings.pop(0)
        return ExecResult(exit_code=0, stdout=text.encode(), stderr=b"")


def test_a_cluster_is_up_when_networkd_has_set_the_addresses() -> None:
    (check,) = overlay.xk8s_checks(cluster("dual")[0])
    guests = CheckContext(access=Guests([BEFORE, AFTER]))  # type: ignore[arg-type]
    with pytest.raises(NotYet, match=r"vm-002 lacks 192\.168\.1\.2/24 on eth1, 1000::1:c0a8:102"):
        check.run(guests)
    assert check.run(guests) == "1 nodes have theirs"


def test_only_addresses_of_the_clusters_ip_families_count() -> None:
    text = "\n".join(line for line in AFTER.splitlines() if "inet6" not in line)
    for family, lacking in (("ipv4", 0), ("ipv6", 2), ("dual", 2)):
        assert len(missing(*cluster(family), text)) == lacking


def test_an_address_on_another_interface_is_missing() -> None:
    swapped = AFTER.replace("eth0", "ethX").replace("eth1", "eth0").replace("ethX", "eth1")
    assert missing(*cluster("ipv4"), swapped) == [
        "192.168.0.2/24 on eth0",
        "192.168.1.2/24 on eth1",
    ]
