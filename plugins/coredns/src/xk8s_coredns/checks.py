"""The check of DNS: a pod asks its own resolver for a Service's name."""

from __future__ import annotations

from typing import Any

from xk8s.checks import CheckContext, NotYet
from xk8s.context import Context
from xk8s.errors import CheckFailed
from xk8s_kubernetes import addresses
from xk8s_kubernetes.checks import journal
from xk8s_kubernetes.probe import PROBE_IMAGE
from xk8s_kubernetes.settings import KubernetesSettings

NAMESPACE = "default"
POD = "xk8s-dns"
_PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
_DEPLOYMENT = "/apis/apps/v1/namespaces/kube-system/deployments/coredns"
_SYSTEM_PODS = "/api/v1/namespaces/kube-system/pods"


def service_name(ctx: Context) -> str:
    """Return the name that the check resolves: that of the API server's Service."""
    return f"kubernetes.default.svc.{ctx.settings(KubernetesSettings).cluster_domain}"


def probe_pod(ctx: Context) -> dict[str, Any]:
    """Return a pod that runs the node's busybox with the resolv.conf that kubelet gives to pods."""
    kind = "a" if ctx.ipv4 else "aaaa"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": POD, "namespace": NAMESPACE},
        "spec": {
            "restartPolicy": "OnFailure",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "probe",
                    "image": PROBE_IMAGE.ref,
                    "imagePullPolicy": "Never",
                    "command": ["/busybox", "nslookup", f"-type={kind}", service_name(ctx)],
                    "volumeMounts": [
                        {"name": "busybox", "mountPath": "/busybox", "readOnly": True}
                    ],
                }
            ],
            "volumes": [
                {"name": "busybox", "hostPath": {"path": "/usr/bin/busybox", "type": "File"}}
            ],
        },
    }


def resolves(check: CheckContext) -> str:
    """Check that a pod resolves the Service ``kubernetes`` to its address."""
    from xk8s_kubernetes.api import connect  # slow to import, and a plan has no use for it

    ctx = check.access.ctx
    api = connect(check.access.state_dir / "kubeconfig")
    available = api.get(_DEPLOYMENT)["status"].get("availableReplicas", 0)
    if not available:
        raise NotYet("no pod of coredns is ready")
    api.create(_PODS, probe_pod(ctx))
    status = api.get(f"{_PODS}/{POD}")["status"]
    if status.get("phase") != "Succeeded":
        raise NotYet(f"pod {POD}: {status.get('phase', 'unknown')}")
    answer = api.text(f"{_PODS}/{POD}/log")
    api.delete(f"{_PODS}/{POD}")
    name, wanted = service_name(ctx), addresses.first_address(addresses.service_cidrs(ctx)[0])
    if wanted not in answered(answer, name):
        raise CheckFailed(
            f"{name} is not {wanted} to a pod", where=f"pod {NAMESPACE}/{POD}", log=answer
        )
    return f"{name} is {wanted} to a pod"


def answered(text: str, name: str) -> tuple[str, ...]:
    """Return the addresses that nslookup of busybox printed for ``name``.

    The first "Address:" is the server's; those of answers follow "Name:".
    """
    found, current = [], ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key == "Name":
            current = value.strip()
        elif key.startswith("Address") and current == name:
            found.append(value.strip())
    return tuple(found)


def explain(check: CheckContext) -> str:
    """Return the log of coredns, or else that of the kubelets that should run it."""
    from xk8s_kubernetes.api import connect

    api = connect(check.access.state_dir / "kubeconfig")
    parts = []
    try:
        listing = api.get(f"{_SYSTEM_PODS}?labelSelector=k8s-app%3Dkube-dns")
        for pod in listing["items"]:
            name = pod["metadata"]["name"]
            state = pod["status"].get("containerStatuses", [{}])[0].get("state", {})
            parts.append(f"--- pod {name}: {pod['status'].get('phase')} {state}")
            parts.append(api.text(f"{_SYSTEM_PODS}/{name}/log?tailLines=30"))
    except NotYet as error:
        parts.append(str(error))
        parts += [
            journal(check, node.name, ("kubelet",))
            for node in addresses.kubernetes_nodes(check.access.ctx)
        ]
    return "\n".join(parts)
