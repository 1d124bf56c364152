from __future__ import annotations

import fnmatch
import re
from typing import Any

import pytest
import yaml
from xk8s.context import Context, IpFamily
from xk8s.errors import UsageError
from xk8s.testing import context_of
from xk8s_coredns import overlay
from xk8s_coredns.artifacts import coredns_artifact
from xk8s_coredns.checks import answered, probe_pod
from xk8s_coredns.settings import CorednsSettings, forward_to
from xk8s_images import Image
from xk8s_kubernetes import Manifest
from xk8s_kubernetes.settings import KubernetesSettings


def context(family: IpFamily = "ipv4", zone: str = "cluster.local", **settings: Any) -> Context:
    both = (KubernetesSettings(cluster_domain=zone), CorednsSettings(**settings))
    return context_of(("kubernetes", "coredns"), *both, family=family)


def documents(ctx: Context) -> dict[str, dict]:
    (text,) = [
        fragment.value.yaml
        for fragment in overlay.xk8s_fragments(ctx)
        if isinstance(fragment.value, Manifest)
    ]
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


@pytest.mark.parametrize(
    ("family", "addresses", "families"),
    [
        ("ipv4", ["10.96.0.10"], ["IPv4"]),
        ("ipv6", ["fd00:4000::10"], ["IPv6"]),
        ("dual", ["10.96.0.10", "fd00:4000::10"], ["IPv4", "IPv6"]),
    ],
)
def test_the_service_has_the_addresses_that_kubelet_gives_to_pods(family, addresses, families):
    spec = documents(context(family))["Service"]["spec"]
    assert spec["clusterIPs"] == addresses
    assert spec["clusterIP"] == addresses[0]
    assert spec["ipFamilies"] == families
    assert spec["ipFamilyPolicy"] == ("PreferDualStack" if family == "dual" else "SingleStack")


def test_the_zone_and_replicas_are_settings():
    found = documents(context(zone="example.test", replicas=3))
    assert "kubernetes example.test in-addr.arpa" in found["ConfigMap"]["data"]["Corefile"]
    assert found["Deployment"]["spec"]["replicas"] == 3


@pytest.mark.parametrize(
    ("upstream", "line"),
    [
        (("off",), None),
        (("resolv.conf",), "forward . /etc/resolv.conf"),
        (("192.0.2.1", "192.0.2.2:5353"), "forward . 192.0.2.1 192.0.2.2:5353"),
    ],
)
def test_other_names_are_forwarded_or_not(upstream, line):
    corefile = documents(context(upstream=upstream))["ConfigMap"]["data"]["Corefile"]
    assert (line in corefile) if line else ("forward" not in corefile)
    assert corefile.count("{") == corefile.count("}")


def test_no_import_is_without_a_file():
    """CoreDNS would warn of it each half minute, and the log would have nothing else."""
    found = documents(context())
    data = found["ConfigMap"]["data"]
    patterns = re.findall(r"import (\S+)", data["Corefile"])
    spec = found["Deployment"]["spec"]["template"]["spec"]
    (mount,) = [m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "custom"]
    (volume,) = [v["projected"]["sources"] for v in spec["volumes"] if v["name"] == "custom"]
    ours, yours = (source["configMap"] for source in volume)
    assert ours["name"] == found["ConfigMap"]["metadata"]["name"]
    files = {f"{mount['mountPath']}/{item['path']}": data[item["key"]] for item in ours["items"]}
    assert len(patterns) == 2
    for pattern in patterns:
        (path,) = fnmatch.filter(files, pattern)
        # An empty one is warned of as well.
        assert files[path].startswith("#")
    assert yours == {"name": "coredns-custom", "optional": True}


@pytest.mark.parametrize("upstream", [("dns.example",), ("off", "192.0.2.1"), ("192.0.2.1:x",)])
def test_rubbish_is_no_upstream(upstream):
    with pytest.raises(UsageError, match="is not an address"):
        forward_to(upstream)


def test_the_pods_image_is_the_one_that_is_baked():
    ctx = context()
    (image,) = [f.value for f in overlay.xk8s_fragments(ctx) if isinstance(f.value, Image)]
    (container,) = documents(ctx)["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == image.ref == "xk8s.local/coredns:1.15.0"
    assert container["imagePullPolicy"] == "IfNotPresent"


def test_only_the_pinned_version_is_built_here():
    def kinds(**settings: object) -> list[str]:
        artifact = coredns_artifact(CorednsSettings(**settings))
        return [type(source).__name__ for source in artifact.sources]

    assert kinds() == ["Release", "GoModule"]
    assert kinds(version="v1.12.0", dir="/x") == ["OwnDirectory", "Release"]


def test_the_answer_is_told_from_the_servers_own_address():
    name = "kubernetes.default.svc.cluster.local"
    text = f"Server:\t\t10.96.0.10\nAddress:\t10.96.0.10:53\n\nName:\t{name}\nAddress: 10.96.0.1\n"
    assert answered(text, name) == ("10.96.0.1",)
    assert answered("Server: x\nAddress: 10.96.0.1:53\n\n** server can't find\n", name) == ()


@pytest.mark.parametrize(("family", "kind"), [("ipv4", "a"), ("ipv6", "aaaa"), ("dual", "a")])
def test_the_probe_asks_for_the_family_of_the_service(family, kind):
    (container,) = probe_pod(context(family, zone="z.test"))["spec"]["containers"]
    assert container["command"][1:] == [
        "nslookup",
        f"-type={kind}",
        "kubernetes.default.svc.z.test",
    ]


def test_pods_are_other_ones_when_program_or_configuration_is(tmp_path):
    def made_of(**settings: object) -> str:
        template = documents(context(**settings))["Deployment"]["spec"]["template"]
        return template["metadata"]["annotations"]["xk8s.local/made-of"]

    plain = made_of()
    assert made_of(replicas=3) == plain
    assert made_of(upstream=("off",)) != plain
    (tmp_path / "coredns").write_text("a build")
    first = made_of(dir=str(tmp_path))
    assert first != plain
    (tmp_path / "coredns").write_text("another build")
    assert made_of(dir=str(tmp_path)) != first
