"""frr: routes between nodes, routers and testers are learnt by BGP."""

ANNOUNCE_POINT = "frr.announce"
"""Fragments of this point are prefixes (str) that all nodes announce to the routers."""
