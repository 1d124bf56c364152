"""Messages in bgpd's log when a session does not come up or ends."""

from __future__ import annotations

from xk8s.overlay import Fault

_SAID = r"%NOTIFICATION: (?:sent to|received from) neighbor (?P<neighbour>\S+) "

FAULTS = (
    Fault(
        name="bgp-other-as",
        pattern=_SAID + r"2/2 \(OPEN Message Error/Bad Peer AS\)",
        cause="the neighbour {neighbour} is in a different autonomous system than configured",
        remedy="make both sides agree: frr.nodes_as, frr.routers_as, frr.testers_as, or your own "
        "/etc/frr/frr.conf (xk8s exec NODE -- vtysh -c 'show running-config')",
        examples=(
            "bgpd[325]: [HZN6M-XRM1G] %NOTIFICATION: received from neighbor 192.168.1.2 2/2 "
            "(OPEN Message Error/Bad Peer AS) 2 bytes fc 01",
        ),
    ),
    Fault(
        name="bgp-hold-timer",
        pattern=_SAID + r"4/0 \(Hold Timer Expired\)",
        cause="nothing was received from the neighbour {neighbour} within the hold time",
        remedy="check the link between them (xk8s net link), or, if the machine is too busy, "
        "raise -s frr.hold=30",
        examples=(
            "bgpd[325]: [HZN6M-XRM1G] %NOTIFICATION: sent to neighbor 1000::1:c0a8:101 4/0 "
            "(Hold Timer Expired) 0 bytes",
        ),
        # Also briefly after a restore, when the others' clocks have continued.
        transient=True,
    ),
)
