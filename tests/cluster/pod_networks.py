"""Two nodes with flannel's network and further interfaces by multinet, in both IP families, and a
router that learns virtual addresses by BGP: for test_families.py, test_multinet.py and
test_flannel.py. kube-proxy is in its default mode: flannel's own rules follow it, and those of
nftables are tested.
"""

from __future__ import annotations

from tests.cluster.shared import README, Shared

POD_NETWORKS = Shared(
    name="networks",
    up=(*README.up, "containerd", "flannel", "multinet", "frr", "--ip-family", "dual",
        "-s", "cluster.node_networks=1,2"),
)  # fmt: skip
