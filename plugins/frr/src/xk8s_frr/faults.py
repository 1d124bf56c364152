"""What bgpd says in its log when a session does not come about or ends."""

from __future__ import annotations

from xk8s.overlay import Fault

_SAID = r"%NOTIFICATION: (?:sent to|received from) neighbor (?P<neighbour>\S+) "

FAULTS = (
    Fault(
        name="bgp-other-as",
        pattern=_SAID + r"2/2 \(OPEN Message Error/Bad Peer AS\)",
        cause="the neighbour {neighbour} is in another autonomous system than it is said to be",
        remedy="let both sides agree: frr.nodes_as, frr.routers_as, frr.testers_as, or your own "
        "/etc/frr/frr.conf (xk8s exec NODE -- vtysh -c 'show running-config')",
        examples=(
            "bgpd[325]: [HZN6M-XRM1G] %NOTIFICATION: received from neighbor 192.168.1.2 2/2 "
            "(OPEN Message Error/Bad Peer AS) 2 bytes fc 01",
        ),
    ),
    Fault(
        name="bgp-hold-timer",
        pattern=_SAID + r"4/0 \(Hold Timer Expired\)",
        cause="nothing was heard of the neighbour {neighbour} for the hold time",
        remedy="look at the link between them (xk8s net link), or, where the machine is too busy, "
        "raise -s frr.hold=30",
        examples=(
            "bgpd[325]: [HZN6M-XRM1G] %NOTIFICATION: sent to neighbor 1000::1:c0a8:101 4/0 "
            "(Hold Timer Expired) 0 bytes",
        ),
        # Also for a moment after a restore, when the others' clocks went on.
        transient=True,
    ),
)
