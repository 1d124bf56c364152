"""The named points that other overlays may give fragments for."""

from __future__ import annotations

from collections.abc import Mapping

POINTS: Mapping[str, str] = {
    **{
        f"kubernetes.{component}.args": f"an argument of {program}, such as --v=4 (str)"
        for component, program in (
            ("apiserver", "kube-apiserver"),
            ("controller-manager", "kube-controller-manager"),
            ("scheduler", "kube-scheduler"),
            ("kubelet", "kubelet"),
            ("proxy", "kube-proxy"),
        )
    },
    "kubernetes.kubelet.config": "a part of KubeletConfiguration, merged into it (mapping)",
    "kubernetes.proxy.config": "a part of KubeProxyConfiguration, merged into it (mapping)",
    "kubernetes.manifest": "objects for the API server (xk8s_kubernetes.Manifest)",
}
