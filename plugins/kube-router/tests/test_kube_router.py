from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from xk8s.context import Context, IpFamily
from xk8s.errors import PlanError
from xk8s.names.request import Request
from xk8s.pki import Keys
from xk8s.planning.make_plan import make_plan
from xk8s.sources import GoModule, OwnDirectory
from xk8s.testing import context_of
from xk8s_kube_router import overlay
from xk8s_kube_router.artifacts import kube_router_artifact
from xk8s_kube_router.settings import KubeRouterSettings
from xk8s_kubernetes import Manifest
from xk8s_kubernetes.settings import KubernetesSettings


def context(family: IpFamily = "ipv4", mtu: int = 0, **settings: Any) -> Context:
    both = (KubernetesSettings(pod_mtu=mtu), KubeRouterSettings(**settings))
    return context_of(("kube-router", "kubernetes"), *both, family=family)


def config(ctx: Context, number: int = 0) -> dict[str, Any]:
    (file,) = overlay.xk8s_node_files(ctx, ctx.nodes[number])
    found: dict[str, Any] = json.loads(file.data)
    return found


@pytest.mark.parametrize("family", ["ipv4", "dual"])
def test_command_line(family, snapshot):
    assert "\n".join(overlay.arguments(context(family))) == snapshot


def test_pods_are_on_its_bridge_with_the_ranges_of_their_node():
    bridge = config(context("dual"), 1)["plugins"][0]
    # kube-router looks for it by this name.
    assert bridge["bridge"] == "kube-bridge"
    subnets = [part["subnet"] for ranges in bridge["ipam"]["ranges"] for part in ranges]
    assert subnets == ["11.0.2.0/24", "1100::200/120"]


def test_the_mtu_is_that_of_the_network_or_of_the_setting():
    for given, mtu in ((0, 1500), (1400, 1400)):
        ctx = context(mtu=given)
        (check,) = overlay.xk8s_checks(ctx)
        assert config(ctx)["plugins"][0]["mtu"] == check.run.keywords["network"].mtu == mtu


def test_settings_reach_the_command_line_last():
    words = overlay.arguments(context(network_policy=False, args=("--v=3",)))
    assert "--run-firewall=false" in words
    assert words[-1] == "--v=3"


@pytest.mark.parametrize("family", ["ipv6", "dual"])
def test_ipv6_is_refused_in_the_plan(family):
    request = Request(
        overlays=("kubernetes", "containerd", "kube-router"),
        sets=(f"cluster.ip_family={family}",),
        environment={},
    )
    with pytest.raises(PlanError, match="IPv6") as caught:
        make_plan(request)
    assert "flannel" in caught.value.hint


def test_it_may_see_and_change_nothing(tmp_path):
    ctx = context()
    roles = [
        document
        for fragment in overlay.xk8s_fragments(ctx)
        if isinstance(fragment.value, Manifest) and fragment.value.name == "20-kube-router"
        for document in yaml.safe_load_all(fragment.value.yaml)
    ]
    verbs = {verb for rule in roles[0]["rules"] for verb in rule["verbs"]}
    assert verbs == {"get", "list", "watch"}
    keys = Keys(tmp_path)
    (file,) = overlay.xk8s_secrets(ctx, ctx.nodes[0], keys)
    assert file.mode == 0o600
    assert yaml.safe_load(file.data)["users"][0]["name"] == roles[1]["subjects"][0]["name"]
    assert f"--kubeconfig={file.path}" in overlay.arguments(ctx)


def test_routers_get_nothing(tmp_path):
    ctx = context()
    router = ctx.nodes[-1]
    assert router.role == "router"
    assert list(overlay.xk8s_node_files(ctx, router)) == []
    assert list(overlay.xk8s_secrets(ctx, router, Keys(tmp_path))) == []
    assert not any(layer.roles & {"router", "tester"} for layer in overlay.xk8s_layers(ctx))


def test_an_own_kube_router_comes_first():
    own, module = kube_router_artifact(KubeRouterSettings(dir="/mine")).sources
    assert own == OwnDirectory(path="/mine")
    assert isinstance(module, GoModule)
    assert "github.com/cloudnativelabs/kube-router/v2 v2.1.0 h1:" in module.go_sum


def test_a_plan_has_all_it_needs_of_the_kernel():
    plan = make_plan(
        Request(
            overlays=("kubernetes", "containerd", "kube-router"),
            environment={},
        )
    )
    assert "pod network" in [check.name for check in plan.checks]
