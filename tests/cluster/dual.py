"""The README's cluster with other pod networks, other routing and another kube-proxy, in both IP
families: for test_families.py, test_multinet.py and test_flannel.py.
"""

from __future__ import annotations

from tests.cluster.shared import README, Shared

DUAL = Shared(
    name="dual",
    up=(*README.up, "frr", "flannel", "multinet", "--ip-family", "dual",
        "-s", "kubernetes.proxy_mode=iptables", "-s", "cluster.node_networks=1,2"),
)  # fmt: skip
