"""Checks of the running cluster: the API server, every node, and service accounts; the check of the
pod network belongs to the CNI.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from xk8s.checks import CheckContext, NotYet
from xk8s.context import Context
from xk8s.errors import CheckFailed, Xk8sError
from xk8s.overlay import Check
from xk8s_images import cri

from xk8s_kubernetes import addresses
from xk8s_kubernetes.probe import (
    PROBE_ANSWER,
    PROBE_NAME,
    PROBE_NAMESPACE,
    probe_pod,
    user_of,
)
from xk8s_kubernetes.settings import KubernetesSettings

if TYPE_CHECKING:
    from xk8s_kubernetes.api import Api

_LINES = "40"
_PROXY_MODE = "http://localhost:10249/proxyMode"
_PODS = f"/api/v1/namespaces/{PROBE_NAMESPACE}/pods"


def checks(ctx: Context) -> tuple[Check, ...]:
    """Return the checks in the order in which a cluster comes up. Under TCG they take minutes, and
    more on a busy machine: what they see is shown meanwhile, so patience costs nothing.
    """
    per_node = 60.0 * len(addresses.kubernetes_nodes(ctx))
    return (
        Check(
            name="api",
            run=api_ready,
            timeout=600,
            interval=1,
            explain=explain_api,
            after_restore=True,
        ),
        Check(
            name="nodes", run=nodes_ready, timeout=480 + per_node, interval=1, explain=explain_nodes
        ),
        Check(name="proxy", run=proxy_mode, timeout=240, interval=1, explain=explain_nodes),
        Check(
            name="service account",
            run=service_account,
            timeout=480,
            interval=1,
            explain=explain_nodes,
        ),
    )


def api_ready(check: CheckContext) -> str:
    """Check /readyz through the host's port."""
    try:
        _api(check).text("/readyz")
    except NotYet as seen:
        # The answer lists every part; only those that are not ready say something.
        missing = re.findall(r"\[-\](\S+)", str(seen))
        raise NotYet(f"waiting for {', '.join(missing)}" if missing else str(seen)) from seen
    version = _api(check).get("/version")["gitVersion"]
    host, port = check.access.forward(addresses.API_FORWARD)
    return f"{version} ready on https://{addresses.bracketed(host)}:{port}"


def nodes_ready(check: CheckContext) -> str:
    """Check that every planned node is registered and Ready."""
    wanted = [node.name for node in addresses.kubernetes_nodes(check.access.ctx)]
    seen = {node["metadata"]["name"]: node for node in _api(check).get("/api/v1/nodes")["items"]}
    missing = [text for name in wanted if (text := _problem(name, seen.get(name)))]
    if missing:
        raise NotYet("; ".join(missing))
    return f"{', '.join(wanted)} Ready"


def proxy_mode(check: CheckContext) -> str:
    """Check that the kube-proxy of every node runs in the configured mode: it falls back to another
    one if the kernel lacks something.
    """
    mode = check.access.ctx.settings(KubernetesSettings).proxy_mode
    nodes = [node.name for node in addresses.kubernetes_nodes(check.access.ctx)]
    for node in nodes:
        said = check.ok(node, "curl", "--silent", "--show-error", "--fail", _PROXY_MODE)
        if said != mode:
            raise CheckFailed(f"kube-proxy of {node} runs in mode {said!r}, not {mode!r}")
    return f"{mode} on {', '.join(nodes)}"


def service_account(check: CheckContext) -> str:
    """Check that a pod knows who it is; see `xk8s_kubernetes.probe`."""
    api = _api(check)
    api.create(_PODS, probe_pod())
    status = api.get(f"{_PODS}/{PROBE_NAME}")["status"]
    if not _has_ended_well(status):
        raise NotYet(f"pod {PROBE_NAME}: {_pod_state(status)}")
    answer = user_of(api.text(f"{_PODS}/{PROBE_NAME}/log"))
    api.delete(f"{_PODS}/{PROBE_NAME}")
    if answer != PROBE_ANSWER:
        raise CheckFailed(
            f"the API server takes a pod for {answer!r}, not for {PROBE_ANSWER!r}",
            where=f"pod {PROBE_NAMESPACE}/{PROBE_NAME}",
        )
    return f"a pod is {answer} to the API server"


def explain_api(check: CheckContext) -> str:
    """Return the end of etcd's and the API server's logs."""
    node = addresses.control_plane(check.access.ctx)
    return journal(check, node.name, ("etcd", "kube-apiserver"))


def explain_nodes(check: CheckContext) -> str:
    """Return the log of what Ready depends on, from each node that is not Ready; from the first
    node if all are.
    """
    nodes = [node.name for node in addresses.kubernetes_nodes(check.access.ctx)]
    bad = []
    try:
        items = _api(check).get("/api/v1/nodes")["items"]
        seen = {node["metadata"]["name"]: node for node in items}
        bad = [name for name in nodes if _problem(name, seen.get(name))]
    except NotYet:
        return explain_api(check)
    return "\n".join(
        journal(check, name, ("kubelet", "kube-proxy", cri.unit_name(check.access, name)))
        for name in bad or nodes[:1]
    )


def journal(check: CheckContext, node: str, units: Iterable[str]) -> str:
    """Return the last lines of these units on that node, or why there are none."""
    parts = []
    for unit in units:
        argv = [
            "journalctl",
            "--no-pager",
            "--quiet",
            "--output=short-iso",
            "-n",
            _LINES,
            "-u",
            unit,
        ]
        try:
            result = check.access.run(node, argv, timeout=30)
            text = result.stdout.decode(errors="replace").strip()
        except (TimeoutError, Xk8sError) as error:
            return f"--- {node}: its guest agent does not answer: {error}"
        if text:
            parts.append(f"--- {node}: {unit}\n{text}")
    return "\n".join(parts)


def _api(check: CheckContext) -> Api:
    from xk8s_kubernetes.api import (
        connect,
    )  # httpx2 is slow to import, and a plan has no use for it

    return connect(check.access.state_dir / "kubeconfig")


def _problem(name: str, node: dict[str, Any] | None) -> str:
    """Return why the node is not Ready; empty if it is."""
    if node is None:
        return f"{name} is not registered"
    for condition in node["status"].get("conditions", ()):
        if condition["type"] == "Ready":
            if condition["status"] == "True":
                return ""
            return f"{name} is not Ready: {condition.get('message') or condition.get('reason')}"
    return f"{name} says nothing about itself yet"


def _has_ended_well(status: dict[str, Any]) -> bool:
    """Return whether its program ended with exit code 0; kubelet reports seconds later that the pod
    has ended.
    """
    ended = [
        container.get("state", {}).get("terminated", {}).get("exitCode")
        for container in status.get("containerStatuses", ())
    ]
    return ended == [0] or status.get("phase") == "Succeeded"


def _pod_state(status: dict[str, Any]) -> str:
    """Return the phase, and what the container waits for or ended with."""
    found = [str(status.get("phase", "unknown"))]
    for container in status.get("containerStatuses", ()):
        for kind, state in container.get("state", {}).items():
            words = (kind, state.get("reason"), state.get("message"))
            found.append(" ".join(str(word) for word in words if word))
    return ", ".join(found)
