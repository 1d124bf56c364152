"""The named points to which other overlays may contribute fragments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xk8s.fragments import argument_sets, config_sets
from xk8s.overlay import Point
from xk8s.sources import Artifact

from xk8s_kubernetes import cni
from xk8s_kubernetes.manifest import Manifest

_PROGRAMS = {
    "apiserver": ("kube-apiserver", "--audit-log-path=-"),
    "controller-manager": ("kube-controller-manager", "--concurrent-service-syncs=4"),
    "scheduler": ("kube-scheduler", "--v=4"),
    "kubelet": ("kubelet", "--register-with-taints=example.com/new=:NoSchedule"),
    "proxy": ("kube-proxy", "--v=4"),
}

_TABLES = ("feature-gates", "node-labels", "runtime-config")
_ADDING = (
    "allow-metric-labels",
    "api-audiences",
    "controllers",
    "disable-admission-plugins",
    "enable-admission-plugins",
    "register-with-taints",
    "service-account-issuer",
    "service-account-key-file",
    "tls-cipher-suites",
    "tls-sni-cert-key",
    "vmodule",
)
"""Flags that may be repeated, and add up."""


def _manifest(manifest: Manifest) -> Mapping[str, str]:
    return {f"the manifest {manifest.name!r}": manifest.yaml}


POINTS: Mapping[str, Point] = {
    **{
        f"kubernetes.{component}.args": Point(
            type=str,
            help=f"An argument of {program}, after those of the overlay and before those of the "
            "user: the last of repeated flags counts. Flags that add up do not "
            "conflict.",
            example=example,
            sets=argument_sets(tables=_TABLES, adding=_ADDING),
        )
        for component, (program, example) in _PROGRAMS.items()
    },
    "kubernetes.kubelet.config": Point(
        type=Mapping[str, Any],
        help="A part of KubeletConfiguration, merged over that of the overlay; lists whole.",
        example={"maxPods": 50},
        sets=config_sets,
    ),
    "kubernetes.proxy.config": Point(
        type=Mapping[str, Any],
        help="A part of KubeProxyConfiguration, merged over that of the overlay; lists whole.",
        example={"iptables": {"masqueradeBit": 15}},
        sets=config_sets,
    ),
    cni.PLUGINS: Point(
        type=Artifact,
        help="An overlay's own CNI plugins, added to the directory of the others on all nodes.",
        example=Artifact(name="hello-cni", version="1.0", members=("hello",), sources=()),
    ),
    cni.CHAIN: Point(
        type=Mapping[str, Any],
        help="The configuration of a CNI plugin that is called for each pod after those of the "
        "CNI, in the order of overlays. bridge, flannel and kube-router have it in their lists; "
        "another CNI can include it with xk8s_kubernetes.cni.chain.",
        example={"type": "tuning", "sysctl": {"net.core.somaxconn": "4096"}},
        sets=cni.chain_sets,
    ),
    "kubernetes.manifest": Point(
        type=Manifest,
        help="Objects that are applied when the API server answers, in the order of overlays, then "
        "of names; a name is used once.",
        example=Manifest(
            name="50-hello",
            yaml="apiVersion: v1\nkind: Namespace\nmetadata:\n  name: hello\n",
        ),
        sets=_manifest,
    ),
}
