"""flannel in a dual-stack cluster. `up` passes the checks of every CNI: pods reach those of another
node with the largest packet that fits and no larger one, and names are resolved.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cni_cluster import Cluster
from tests.cluster.pod_networks import POD_NETWORKS
from tests.conftest import Xk8s

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def flannel(xk8s: Xk8s) -> Iterator[Cluster]:
    with POD_NETWORKS.running(xk8s):
        yield Cluster(xk8s, POD_NETWORKS.name)


def test_flannel_has_tunnels_in_both_families_to_the_planned_ranges(flannel: Cluster) -> None:
    routes = flannel.guest("vm-001", "ip", "route", "show", "11.0.2.0/24")
    assert "dev flannel.1" in routes
    routes = flannel.guest("vm-001", "ip", "-6", "route", "show", "1100::200/120")
    assert "dev flannel-v6.1" in routes
    # 70 bytes of a VXLAN over IPv6.
    config = json.loads(flannel.guest("vm-001", "cat", "/etc/cni/net.d/10-flannel.conflist"))
    assert config["plugins"][0]["delegate"]["mtu"] == 1430
    for node in ("vm-001", "vm-002"):
        log = flannel.guest(node, "journalctl", "--no-pager", "-u", "flanneld")
        assert "panic:" not in log


def test_a_pods_packets_leave_the_cluster_with_the_nodes_address(flannel: Cluster) -> None:
    for node, cidr in (("vm-001", "11.0.1.0/24"), ("vm-002", "11.0.2.0/24")):
        rules = flannel.guest(node, "nft", "list", "table", "ip", "flannel-ipv4")
        assert f"ip saddr {cidr} ip daddr 11.0.0.0/16 return" in rules


def test_own_plugin_and_another_backend_are_put_into_the_running_cluster(
    flannel: Cluster, tmp_path: Path
) -> None:
    """A plugin of the user in place of flannel's, and one more that it calls. The backend's MTU
    is the larger one, which the bridge that is there has not: hence the setting.
    """
    plan = flannel.xk8s.json("artifacts", *POD_NETWORKS.up, "--json")["artifacts"]
    (made,) = (artifact for artifact in plan if artifact["name"] == "flannel-cni-plugin")
    shutil.copy(Path(made["path"]) / "flannel", tmp_path / "flannel-theirs")
    script = tmp_path / "flannel"
    script.write_text(
        '#!/bin/sh\n: > "/run/own-flannel-$CNI_COMMAND"\nexec /opt/cni/bin/flannel-theirs\n'
    )
    script.chmod(0o755)
    done = flannel.json(
        "apply", "-s", f"kubernetes.cni_dir={tmp_path}", "-s", "flannel.backend=host-gw",
        "-s", "kubernetes.pod_mtu=1430", timeout=1800,
    )["nodes"]  # fmt: skip
    changed = {node["node"]: node for node in done}
    for name in ("vm-001", "vm-002"):
        node = changed.pop(name)
        assert {"/opt/cni/bin/flannel", "/opt/cni/bin/flannel-theirs"} <= set(node["files"])
        assert node["restarted"] == ["flanneld.service"]
    # The router has none of it.
    assert [(node["files"], node["restarted"]) for node in changed.values()] == [([], [])]
    # The checks made pods, so that the plugin was called on both nodes.
    for node, route in (
        ("vm-001", "11.0.2.0/24 via 192.168.1.2 dev eth1"),
        ("vm-002", "11.0.1.0/24 via 192.168.1.1 dev eth1"),
    ):
        flannel.guest(node, "ls", "/run/own-flannel-ADD")
        assert route in flannel.guest(node, "ip", "route")


def test_a_bad_directory_leaves_the_running_cluster_alone(flannel: Cluster, tmp_path: Path) -> None:
    said = flannel("apply", "-s", f"kubernetes.cni_dir={tmp_path / 'none'}", code=2, timeout=60)
    assert "does not exist" in said
