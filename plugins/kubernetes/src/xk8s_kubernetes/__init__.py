"""Kubernetes: control plane, kubelet, kube-proxy, TLS and kubeconfig."""

from __future__ import annotations

from xk8s_kubernetes.manifest import Manifest

__all__ = ["Manifest"]
