from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from xk8s.context import Context, IpFamily
from xk8s.errors import PlanError
from xk8s.names.request import Request
from xk8s.overlay import File
from xk8s.pki import Keys
from xk8s.planning.make_plan import make_plan
from xk8s.sources import GoModule, OwnDirectory
from xk8s.testing import context_of
from xk8s_flannel import overlay
from xk8s_flannel.artifacts import flanneld_artifact, plugin_artifact
from xk8s_flannel.settings import FlannelSettings
from xk8s_kubernetes import Manifest, cni
from xk8s_kubernetes.settings import KubernetesSettings


def context(
    family: IpFamily = "ipv4", mode: Any = "nftables", mtu: int = 0, **settings: Any
) -> Context:
    kubernetes = KubernetesSettings(proxy_mode=mode, pod_mtu=mtu)
    own = FlannelSettings(**settings)
    return context_of(("flannel", "kubernetes"), kubernetes, own, family=family)


def files(ctx: Context) -> dict[str, str]:
    return {
        entry.path: entry.data.decode()
        for layer in overlay.xk8s_layers(ctx)
        for entry in layer.entries
        if isinstance(entry, File)
    }


def expected_mtu(ctx: Context) -> int:
    (check,) = overlay.xk8s_checks(ctx)
    found: int = check.run.keywords["network"].mtu
    return found


@pytest.mark.parametrize("family", ["ipv4", "ipv6", "dual"])
def test_configuration(family, snapshot):
    assert files(context(family)) == snapshot


@pytest.mark.parametrize(
    ("family", "settings", "mtu"),
    [
        ("ipv4", {}, 1450),
        ("dual", {}, 1430),
        ("dual", {"backend": "host-gw"}, 1500),
        ("ipv4", {"backend": "ipip"}, 1480),
        ("ipv6", {"backend": "wireguard"}, 1420),
        ("ipv4", {"mtu": 1300}, 1300),
    ],
)
def test_the_mtu_is_what_the_tunnel_leaves_or_the_setting(family, settings, mtu):
    ctx = context(family, **settings)
    config = json.loads(files(ctx)[overlay.CONFIG])
    assert config["plugins"][0]["delegate"]["mtu"] == expected_mtu(ctx) == mtu


@pytest.mark.parametrize("family", ["ipv6", "dual"])
def test_a_backend_without_ipv6_is_refused_in_the_plan(family):
    request = Request(
        overlays=("kubernetes", "containerd", "flannel"),
        sets=("flannel.backend=ipip", f"cluster.ip_family={family}"),
        environment={},
    )
    with pytest.raises(PlanError, match="ipip has no IPv6") as caught:
        make_plan(request)
    assert "vxlan" in caught.value.hint


def test_rules_are_made_as_kube_proxy_makes_them():
    for mode, on in (("nftables", True), ("iptables", False), ("ipvs", False)):
        config = json.loads(files(context(mode=mode))[overlay.NETWORK])
        assert config["EnableNFTables"] is on


def test_every_node_has_its_range_from_its_node_object():
    manifests = [
        fragment.value for fragment in overlay.xk8s_fragments(context("dual"))
        if isinstance(fragment.value, Manifest)
    ]  # fmt: skip
    nodes = list(yaml.safe_load_all(manifests[0].yaml))
    assert [(node["metadata"]["name"], node["spec"]["podCIDRs"]) for node in nodes] == [
        ("vm-001", ["11.0.1.0/24", "1100::100/120"]),
        ("vm-002", ["11.0.2.0/24", "1100::200/120"]),
    ]
    assert nodes[0]["spec"]["podCIDR"] == "11.0.1.0/24"
    # Without any, flanneld ended with "assignment to entry in nil map" and was started again.
    assert all(node["metadata"]["annotations"] for node in nodes)


def test_flanneld_is_no_admin(tmp_path):
    ctx = context()
    keys = Keys(tmp_path)
    for node in ctx.nodes:
        found = list(overlay.xk8s_secrets(ctx, node, keys))
        if node.role == "router":
            assert found == []
            continue
        (file,) = found
        assert file.mode == 0o600
        config = yaml.safe_load(file.data)
        assert config["users"][0]["name"] == overlay.USER
        assert file.path == cni.agent_config("flannel")
        assert f"--kubeconfig-file={file.path}" in overlay.arguments(ctx)


def test_an_own_flanneld_comes_first_and_the_plugin_is_built():
    own, module = flanneld_artifact(FlannelSettings(dir="/mine")).sources
    assert own == OwnDirectory(path="/mine")
    assert isinstance(module, GoModule)
    assert "github.com/flannel-io/flannel v0.28.10 h1:" in module.go_sum
    (built,) = plugin_artifact().sources
    assert isinstance(built, GoModule)
    assert "github.com/containernetworking/plugins v0.9.1 h1:" in built.go_sum


def test_the_plan_has_its_plugin_where_the_others_are_and_nothing_of_the_bridge():
    plan = make_plan(Request(overlays=("kubernetes", "containerd", "flannel"), environment={}))
    entries = {
        planned.layer.name: {e.path for e in planned.layer.entries} for planned in plan.layers
    }
    assert {"/opt/cni/bin/flannel", "/opt/cni/bin/bridge"} <= entries["cni"]
    assert "bridge" not in entries
    paths = {path for node in plan.nodes for path in node.owners}
    assert not any(path.endswith("50-pods.conf") for path in paths)


def test_two_cnis_are_an_error_that_names_both():
    with pytest.raises(PlanError, match="'bridge' and 'flannel' both provide 'cni'"):
        make_plan(Request(overlays=("kubernetes", "containerd", "flannel", "bridge")))
