"""What is looked at when something is wrong, and what guests must have, for whole plans."""

from __future__ import annotations

import re

import pytest
from xk8s.names.request import Request
from xk8s.overlay import NODE_ROLES, Observation
from xk8s.planning.make_plan import make_plan
from xk8s.planning.plan import Plan


def plan(*sets: str) -> Plan:
    request = Request(
        overlays=("kubernetes", "containerd", "coredns", "externalip"), sets=sets, environment={}
    )
    return make_plan(request)


def observations(made: Plan) -> list[Observation]:
    return [
        observation
        for name in made.ctx.overlays
        for observation in made.registry.hooks.observe(name, made.ctx)
    ]


def test_nothing_is_asked_for_that_holds_keys() -> None:
    seen = observations(plan())
    assert len(seen) > 30
    for observation in seen:
        words = " ".join(observation.argv)
        assert "secret" not in words.lower(), words
        assert "kubeconfig" not in words, words
        if observation.argv[0] in ("cat", "tail", "head"):
            assert not re.search(r"/pki/|\.key|\.conf\b(?<!resolv\.conf)", words), words
    kinds = {kind for observation in seen if observation.argv[:2] == ("kubectl", "get")
             for kind in observation.argv[2].split(",")}  # fmt: skip
    assert {"nodes", "pods", "services", "endpointslices", "events"} <= kinds
    assert not kinds & {"secrets", "configmaps", "all", "serviceaccounts"}
    for observation in seen:  # a pod's specification may have passwords in its environment
        if observation.argv[:2] == ("kubectl", "get") and "pods" in observation.argv[2].split(","):
            assert not any(word in ("json", "yaml") for word in observation.argv)


def test_each_has_a_file_of_its_own() -> None:
    names = [observation.name for observation in observations(plan("kubernetes.proxy_mode=ipvs"))]
    assert len(set(names)) == len(names)
    assert {"journal", "network/nftables", "network/ipvs", "kubectl/events", "cri/images",
            "log/kube-apiserver.log", "log/etcd.log", "etcd/health"} <= set(names)  # fmt: skip


def test_of_routers_nothing_of_kubernetes_is_asked() -> None:
    router = {
        observation.name for observation in observations(plan()) if "router" in observation.roles
    }
    assert "journal" in router
    assert not {name for name in router if name.startswith(("kubectl", "cri", "log", "etcd"))}


@pytest.mark.parametrize(
    ("mode", "program"), [("nftables", "nft"), ("iptables", "iptables-restore"), ("ipvs", "ipset")]
)
def test_programs_by_proxy_mode(mode: str, program: str) -> None:
    needs = plan(f"kubernetes.proxy_mode={mode}").guest
    assert program in needs["kubernetes"].programs
    assert {"nsenter", "mount", "umount"} <= set(needs["kubernetes"].programs)
    assert "/etc/resolv.conf" in needs["kubernetes"].files
    assert needs["kubernetes"].roles == NODE_ROLES
    assert ("ipset" in needs["kubernetes"].programs) == (mode == "ipvs")


@pytest.mark.parametrize("symbol", ["KEYS", "SWAP", "CGROUPS", "HW_RANDOM_VIRTIO"])
def test_what_the_seed_lists_is_asked_of_the_kernel(symbol: str) -> None:
    from xk8s_kubernetes.kernel import kernel_needs

    assert symbol in kernel_needs("nftables").config
    assert {"ip_vs", "dummy", "xt_addrtype"} <= set(kernel_needs("ipvs").modules)


def test_pods_have_logs() -> None:
    made = plan()
    (pods,) = made.registry.hooks.log_files("kubernetes", made.ctx)
    path = pods.paths[0].format(scope="*", name="web", part="*")
    assert path == "/var/log/pods/*_web_*/*/*.log"
