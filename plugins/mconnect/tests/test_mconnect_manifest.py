from __future__ import annotations

from typing import Any

import pytest
import yaml
from xk8s.context import Context, IpFamily
from xk8s.overlay import File
from xk8s.testing import context_of
from xk8s_images import Image, image_artifact
from xk8s_kubernetes import Manifest
from xk8s_mconnect import overlay
from xk8s_mconnect.settings import MconnectSettings


def context(family: IpFamily = "ipv4", **settings: Any) -> Context:
    return context_of(("kubernetes", "mconnect"), MconnectSettings(**settings), family=family)


def fragments(ctx: Context, kind: type) -> list:
    return [f.value for f in overlay.xk8s_fragments(ctx) if isinstance(f.value, kind)]


@pytest.mark.parametrize(
    ("family", "vips", "policy"),
    [
        ("ipv4", ["10.0.0.2"], "SingleStack"),
        ("ipv6", ["1000::2"], "SingleStack"),
        ("dual", ["10.0.0.2", "1000::2"], "RequireDualStack"),
    ],
)
def test_the_service_has_an_address_per_family(family, vips, policy):
    (manifest,) = fragments(context(family), Manifest)
    found = {document["kind"]: document for document in yaml.safe_load_all(manifest.yaml)}
    assert found["Service"]["spec"]["externalIPs"] == vips
    assert found["Service"]["spec"]["ipFamilyPolicy"] == policy
    assert len(found["Service"]["spec"]["ipFamilies"]) == len(vips)
    assert found["Service"]["spec"]["ports"][0]["port"] == 5001


@pytest.mark.parametrize(
    ("family", "annotation", "field"),
    [
        ("ipv4", "10.0.0.2", "10.0.0.2"),
        ("ipv6", "1000::2", "1000::2"),
        ("dual", "10.0.0.2,1000::2", None),
    ],
)
def test_the_successor_of_external_ips_asks_for_the_same_addresses(family, annotation, field):
    (manifest,) = fragments(context(family, service="LoadBalancer"), Manifest)
    found = {document["kind"]: document for document in yaml.safe_load_all(manifest.yaml)}
    service = found["Service"]
    assert service["spec"]["type"] == "LoadBalancer"
    assert "externalIPs" not in service["spec"]
    assert service["metadata"]["annotations"] == {"xk8s.local/load-balancer-ips": annotation}
    assert service["spec"].get("loadBalancerIP") == field


def test_the_pods_run_the_image_that_is_baked():
    ctx = context(replicas=7)
    (manifest,) = fragments(ctx, Manifest)
    deployment = next(iter(yaml.safe_load_all(manifest.yaml)))
    (image,) = fragments(ctx, Image)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == image.ref
    assert container["imagePullPolicy"] == "IfNotPresent"
    assert deployment["spec"]["replicas"] == 7
    assert image_artifact(image).sources[0].inputs[0].name == "busybox-static"


def test_the_manifest_is_in_the_node_for_those_who_apply_it_by_hand():
    ctx = context(apply=False)
    assert fragments(ctx, Manifest) == []
    (file,) = [e for layer in overlay.xk8s_layers(ctx) for e in layer.entries]
    assert isinstance(file, File)
    assert file.path == "/etc/kubernetes/mconnect.yaml"
    assert [document["kind"] for document in yaml.safe_load_all(file.data)] == [
        "Deployment",
        "Service",
    ]
