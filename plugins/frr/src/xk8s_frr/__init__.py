"""frr: routes between nodes, routers and testers, learned by BGP."""

ANNOUNCE_POINT = "frr.announce"
"""The point whose fragments are prefixes that all nodes announce to the routers."""
