from __future__ import annotations

import base64
import re
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from cryptography import x509
from xk8s.context import Context, IpFamily
from xk8s.errors import PlanError, UsageError
from xk8s.names.request import Request
from xk8s.names.settings import Settings
from xk8s.overlay import File, Layer, Node, Symlink, Take
from xk8s.pki import Keys
from xk8s.planning.make_plan import make_plan
from xk8s.sources import DebPackage, GoModule, GoRelease, OwnDirectory, Release
from xk8s.testing import context_of
from xk8s.util.functions import load_function
from xk8s_kubernetes import Manifest, addresses, components, configs, overlay
from xk8s_kubernetes.artifacts import MEMBERS, cni_artifact, kubernetes_artifact
from xk8s_kubernetes.kernel import kernel_needs
from xk8s_kubernetes.settings import KubernetesSettings

FAMILIES = ["ipv4", "ipv6", "dual"]
MODES = ["nftables", "ipvs", "iptables"]


def context(
    family: IpFamily = "ipv4", fragments: dict[str, object] | None = None, **settings: Any
) -> Context:
    points = {point: (value,) for point, value in (fragments or {}).items()}
    own = KubernetesSettings(**settings)
    return context_of("kubernetes", own, family=family, fragments=points, nodes=3, testers=1)


def node(ctx: Context, name: str) -> Node:
    return next(node for node in ctx.nodes if node.name == name)


def layers(ctx: Context) -> dict[str, Layer]:
    return {layer.name: layer for layer in overlay.xk8s_layers(ctx)}


def files(ctx: Context) -> dict[str, File]:
    return {
        entry.path: entry
        for layer in overlay.xk8s_layers(ctx)
        for entry in layer.entries
        if isinstance(entry, File)
    }


def of_node(ctx: Context, name: str) -> dict[str, str]:
    return {f.path: f.data.decode() for f in overlay.xk8s_node_files(ctx, node(ctx, name))}


# --- what runs --------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_apiserver(family, snapshot):
    assert "\n".join(components.apiserver(context(family))) == snapshot


@pytest.mark.parametrize("family", FAMILIES)
def test_kubelet_config(family, snapshot):
    assert configs.kubelet_config(context(family)) == snapshot


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", MODES)
def test_every_file_renders_in_every_family_and_proxy_mode(family, mode):
    ctx = context(family, proxy_mode=mode)
    for path, file in files(ctx).items():
        text = file.data.decode()
        assert "{{" not in text, path
        assert "Undefined" not in text, path
        if path.endswith(".yaml"):
            assert list(yaml.safe_load_all(text)), path
    for name in ("vm-001", "vm-002"):
        assert of_node(ctx, name)["/etc/kubernetes/node.env"].startswith("NODE_IP=")
    proxy = yaml.safe_load(files(ctx)["/etc/kubernetes/proxy.yaml"].data)
    assert proxy["mode"] == mode
    assert len(proxy["clusterCIDR"].split(",")) == (2 if family == "dual" else 1)


def test_enabled_units_are_there_and_their_programs_too():
    ctx = context()
    entries = {e.path: e for layer in layers(ctx).values() for e in layer.entries}
    links = [e for e in entries.values() if isinstance(e, Symlink) and ".wants/" in e.path]
    assert links
    for link in links:
        unit = entries[link.target]
        assert isinstance(unit, File)
        for program in re.findall(r"/usr/bin/kube\S+", unit.data.decode()):
            assert isinstance(entries[program], Take)


def test_workers_get_nothing_of_the_control_plane_and_routers_nothing_at_all():
    for layer in layers(context()).values():
        assert not layer.roles & {"router", "tester"}
        if "control" in layer.name:
            assert layer.roles == {"control-plane"}
        names = {entry.path.rpartition("/")[2] for entry in layer.entries}
        if "worker" in layer.roles:
            assert not names & {"kube-apiserver", "kube-apiserver.service"}


def test_logs_are_where_people_look():
    found = files(context())
    for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy",
                 "kubelet"):  # fmt: skip
        unit = found[f"/etc/systemd/system/{name}.service"].data.decode()
        assert f"tee -a /var/log/{name}.log" in unit


def test_settings_and_fragments_reach_the_command_line_last():
    ctx = context(
        fragments={"kubernetes.apiserver.args": "--v=6"},
        apiserver_args=("--v=9",),
        feature_gates={"B": False, "A": True},
        runtime_config={"api/alpha": "true"},
    )
    words = components.apiserver(ctx)
    assert words[-2:] == ("--v=6", "--v=9")
    assert "--feature-gates=A=true,B=false" in words
    assert "--runtime-config=api/alpha=true" in words


def test_each_component_has_feature_gates_of_its_own_over_those_of_all():
    own = {
        f"{component}_feature_gates": {"Own": True, "B": True}
        for component in ("apiserver", "controller_manager", "scheduler", "kubelet", "proxy")
    }
    for chosen in own:
        ctx = context(feature_gates={"A": True, "B": False}, **{chosen: own[chosen]})
        found = {
            "apiserver": components.apiserver(ctx),
            "controller_manager": components.controller_manager(ctx),
            "scheduler": components.scheduler(ctx),
        }
        gates = {
            name: next(word for word in words if word.startswith("--feature-gates="))
            for name, words in found.items()
        }
        for name, make in (("kubelet", configs.kubelet_config), ("proxy", configs.proxy_config)):
            config = yaml.safe_load(make(ctx))["featureGates"]
            pairs = ",".join(f"{key}={str(on).lower()}" for key, on in sorted(config.items()))
            gates[name] = f"--feature-gates={pairs}"
        for name, text in gates.items():
            mine = f"{name}_feature_gates" == chosen
            expected = "A=true,B=true,Own=true" if mine else "A=true,B=false"
            assert text == f"--feature-gates={expected}", (name, chosen)


def test_configuration_fragments_are_merged():
    ctx = context(
        fragments={"kubernetes.kubelet.config": {"maxPods": 5, "authentication": {"x": 1}}},
        feature_gates={"A": True},
    )
    config = yaml.safe_load(configs.kubelet_config(ctx))
    assert config["maxPods"] == 5
    assert config["authentication"]["x"] == 1
    assert config["authentication"]["anonymous"] == {"enabled": False}
    assert config["featureGates"] == {"A": True}


def test_manifests_are_numbered_in_order_and_unique():
    ctx = context(fragments={"kubernetes.manifest": Manifest(name="50-dns", yaml="a: 1\n")})
    paths = [path for path in files(ctx) if "manifests.d" in path]
    assert [path.rpartition("/")[2] for path in paths] == ["00-kube-system.yaml", "01-50-dns.yaml"]
    same = (Manifest(name="x", yaml="a: 1"), Manifest(name="x", yaml="a: 1"))
    assert len(overlay.manifest_files(same)) == 2
    twice = (Manifest(name="x", yaml=""), Manifest(name="x", yaml="a: 1"))
    with pytest.raises(PlanError, match="'x'"):
        overlay.manifest_files(twice)
    with pytest.raises(PlanError):
        overlay.manifest_files([Manifest(name="../x", yaml="")])


# --- addresses --------------------------------------------------------------------------


def test_addresses_follow_the_plan():
    ctx = context("dual")
    second = node(ctx, "vm-002")
    assert addresses.node_pod_cidrs(ctx, second) == ("11.0.2.0/24", "1100::200/120")
    assert addresses.node_ips(ctx, second) == ("192.168.1.2", "1000::1:c0a8:102")
    assert addresses.dns_addresses(ctx) == ("10.96.0.10", "fd00:4000::10")
    assert addresses.api_url(context("ipv6")) == "https://[1000::1:c0a8:101]:6443"


def test_routers_get_no_node_files():
    ctx = context()
    assert of_node(ctx, "vm-201") == {}


# --- keys -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Keys:
    return Keys(tmp_path_factory.mktemp("pki"))


def secrets(ctx: Context, name: str, keys: Keys) -> dict[str, File]:
    return {file.path: file for file in overlay.xk8s_secrets(ctx, node(ctx, name), keys)}


def test_a_worker_has_no_key_but_its_own(keys):
    ctx = context()
    control, worker = secrets(ctx, "vm-001", keys), secrets(ctx, "vm-002", keys)
    assert set(worker) == {
        "/etc/kubernetes/pki/ca.crt",
        "/etc/kubernetes/pki/kubelet.crt",
        "/etc/kubernetes/pki/kubelet.key",
        "/etc/kubernetes/kubelet.conf",
        "/etc/kubernetes/kube-proxy.conf",
        "/etc/kubernetes/root.conf",
    }
    for authority in ("ca", "etcd-ca", "front-proxy-ca"):
        assert keys.ca(authority).key not in [file.data for file in worker.values()]
    assert b"xk8s-admin" in control["/etc/kubernetes/root.conf"].data
    assert b"xk8s-admin" not in worker["/etc/kubernetes/root.conf"].data
    assert secrets(ctx, "vm-201", keys) == {}


def test_what_holds_a_key_is_roots_alone(keys):
    for name in ("vm-001", "vm-002"):
        for file in secrets(context(), name, keys).values():
            if b"PRIVATE KEY" in file.data or file.path.endswith(".conf"):
                assert file.mode == 0o600, file.path


def test_every_file_a_component_is_told_of_is_there(keys):
    ctx = context()
    named = {
        word.split("=", 1)[1]
        for words in (
            components.apiserver(ctx), components.controller_manager(ctx),
            components.scheduler(ctx), components.kubelet(ctx), components.proxy(ctx),
        )
        for word in words
        if "=/etc/" in word
    }  # fmt: skip
    there = {*files(ctx), *secrets(ctx, "vm-001", keys)}
    # etcd's own authority is in its own directory as well, for its own use.
    assert named <= there


def test_the_apiservers_certificate_is_good_for_all_its_names(keys):
    pem = secrets(context(), "vm-001", keys)["/etc/kubernetes/pki/apiserver.crt"].data
    names = (
        x509.load_pem_x509_certificate(pem)
        .extensions.get_extension_for_class(x509.SubjectAlternativeName)
        .value
    )
    assert "kubernetes.default.svc.cluster.local" in names.get_values_for_type(x509.DNSName)
    ips = {str(ip) for ip in names.get_values_for_type(x509.IPAddress)}
    assert ips >= {
        "127.0.0.1", "::1", "10.96.0.1", "fd00:4000::1", "192.168.0.1", "192.168.1.1",
        "1000::1:c0a8:101",
    }  # fmt: skip


def test_a_kubelet_is_its_node(keys):
    config = yaml.safe_load(secrets(context(), "vm-002", keys)["/etc/kubernetes/kubelet.conf"].data)
    user = config["users"][0]["user"]
    cert = x509.load_pem_x509_certificate(base64.b64decode(user["client-certificate-data"]))
    assert cert.subject.rfc4514_string() == "CN=system:node:vm-002,O=system:nodes"
    assert config["clusters"][0]["cluster"]["server"] == "https://192.168.1.1:6443"


def test_the_hosts_kubeconfig_goes_through_the_forward(keys):
    access = SimpleNamespace(name="lab", forward=lambda name: ("127.0.0.1", 18080), ctx=context())
    (file,) = overlay.xk8s_host_files(access, keys)  # type: ignore[arg-type]
    config = yaml.safe_load(file.data)
    assert (file.path, file.mode) == ("kubeconfig", 0o600)
    assert config["current-context"] == "xk8s-lab"
    assert config["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:18080"


# --- boot, kernel, artifacts ------------------------------------------------------------


def test_nodes_get_randomness_and_the_control_plane_its_port():
    ctx = context()
    control, worker, router = (
        overlay.xk8s_boot(ctx, node(ctx, name)) for name in ("vm-001", "vm-002", "vm-201")
    )
    assert [(f.name, f.guest_port, f.preferred) for f in control.forwards] == [("api", 6443, 18080)]
    assert "virtio-rng-pci,rng=rng0,max-bytes=1024,period=80000" in worker.qemu_args
    assert not worker.forwards
    assert not router.qemu_args


def test_the_port_on_the_host_can_be_chosen():
    ctx = context(host_port=18081)
    (forward,) = overlay.xk8s_boot(ctx, node(ctx, "vm-001")).forwards
    assert forward.preferred == 18081
    settings = Settings(
        Request(
            overlays=(), config_file=None, environment={"XCLUSTER_K8S_PORT": "18082"}, stored={}
        )
    )
    assert settings.load("kubernetes", KubernetesSettings).host_port == 18082


@pytest.mark.parametrize("mode", MODES)
def test_kernel_needs(mode):
    need = kernel_needs(mode)
    assert {"br_netfilter", "nf_conntrack", "dummy", "vxlan"} <= set(need.modules)
    assert "KEYS" in need.config
    assert ("ip_vs" in need.load) == (mode == "ipvs")
    assert ("xt_addrtype" in need.modules) == (mode != "nftables")


def test_kubernetes_is_your_directory_then_a_release_per_program_then_built():
    sources = kubernetes_artifact(KubernetesSettings(dir="/mine")).sources
    assert sources[0] == OwnDirectory(path="/mine")
    releases = [source for source in sources if isinstance(source, Release)]
    assert [name for release in releases for name in release.members] == list(MEMBERS)
    assert all(release.checksum_url == f"{release.url}.sha256" for release in releases)
    module = sources[-1]
    assert isinstance(module, GoModule)
    assert set(module.packages) == set(MEMBERS)
    assert "k8s.io/kubernetes v1.36.3" in module.go_mod
    assert "k8s.io/kubernetes v1.36.3 h1:" in module.go_sum


def test_another_version_is_a_release_then_built_of_what_gos_database_knows():
    sources = kubernetes_artifact(KubernetesSettings(version="1.35.4")).sources
    assert all("/v1.35.4/" in source.url for source in sources if isinstance(source, Release))
    built = sources[-1]
    assert isinstance(built, GoRelease)
    assert (built.module, built.version, built.staging) == (
        "k8s.io/kubernetes", "v1.35.4", "v0.35.4",
    )  # fmt: skip
    assert "gitVersion=v1.35.4 " in built.ldflags
    assert set(built.packages) == set(MEMBERS)


@pytest.mark.parametrize("version", ["1.36", "v1.20.0"])
def test_a_version_that_cannot_be_had_is_refused_in_the_plan(version):
    with pytest.raises(UsageError) as caught:
        list(overlay.xk8s_layers(context(version=version)))
    assert caught.value.hint


def test_own_programs_are_judged_and_how_is_a_setting():
    def judge(**settings: bool) -> str:
        return kubernetes_artifact(KubernetesSettings(**settings)).verify

    assert judge() == "xk8s_kubernetes.programs:check"
    assert judge(allow_skew=True) == "xk8s_kubernetes.programs:check_without_skew"
    for name in (judge(), judge(allow_skew=True)):
        assert load_function(name).__module__ == "xk8s_kubernetes.programs"


def test_an_own_program_changes_the_layers_of_programs_alone(tmp_path, own_places):
    found = []
    for text in ("one", "two"):
        (tmp_path / "kubelet").write_text(text)
        request = Request(
            overlays=("kubernetes", "containerd", "coredns"),
            sets=(f"kubernetes.dir={tmp_path}",),
            environment={},
        )
        found.append({planned.layer.name: planned.digest for planned in make_plan(request).layers})
    changed = {name for name in found[0] if found[0][name] != found[1][name]}
    # A plan knows artifacts as a whole; which of the two is a new image is seen when it is built.
    assert changed == {"kubernetes-node", "kubernetes-control"}


def test_cni_plugins_come_from_debian_last():
    sources = cni_artifact().sources
    assert [type(source) for source in sources] == [Release, GoModule, DebPackage]
    module = sources[1]
    assert isinstance(module, GoModule)
    assert "github.com/containernetworking/plugins v1.9.1 h1:" in module.go_sum
