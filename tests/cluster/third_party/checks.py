"""What is tried in the running cluster."""

from __future__ import annotations

from xk8s.checks import CheckContext, NotYet
from xk8s.errors import CheckFailed
from xk8s_kubernetes.addresses import kubernetes_nodes
from xk8s_my_overlay.settings import Settings

BRIDGE = "my0"


def check_kubelet(context: CheckContext) -> str:
    """Each kubelet says how many pods it takes."""
    ctx = context.access.ctx
    wanted = str(ctx.settings(Settings).pods)
    path = "jsonpath={.items[*].status.capacity.pods}"
    seen = context.ok("vm-001", "kubectl", "get", "nodes", "-o", path).split()
    if seen != [wanted] * len(kubernetes_nodes(ctx)):
        raise CheckFailed(f"the nodes take {seen} pods, not {wanted} each")
    return f"{len(seen)} nodes take {wanted} pods each"


def check_network(context: CheckContext) -> str:
    """Pods were given addresses by our configuration: the bridge is made for the first of them."""
    for node in kubernetes_nodes(context.access.ctx):
        links = context.ok(node.name, "ip", "-br", "link")
        if BRIDGE not in links:
            raise NotYet(f"{node.name}: no bridge {BRIDGE} among: {links}")
    return f"pods are on {BRIDGE}"
