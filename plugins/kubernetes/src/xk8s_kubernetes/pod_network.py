"""The check of the pods' network, the same for every CNI that yields it from `xk8s_checks`: pods
reach those of the other nodes with the largest packet that fits, and no larger one. An overlay that
gives pods further interfaces has it for these.

A pod on each node does nothing but exist. What is sent is sent by the node's own programs inside
the pod's network namespace: `ping` of busybox cannot forbid fragments, and containers of some
runtimes may not open raw sockets.
"""

from __future__ import annotations

import functools
import ipaddress
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import field, frozen
from xk8s.checks import CheckContext, NotYet
from xk8s.context import Context
from xk8s.errors import CheckFailed, Xk8sError
from xk8s.overlay import Check

from xk8s_kubernetes import addresses
from xk8s_kubernetes.checks import journal
from xk8s_kubernetes.probe import PROBE_IMAGE, PROBE_NAMESPACE

if TYPE_CHECKING:
    from xk8s_kubernetes.api import Api

_PODS = f"/api/v1/namespaces/{PROBE_NAMESPACE}/pods"
_HEADERS = {4: 28, 6: 48}
"""Bytes of IP and ICMP around the payload of ping."""

_MTU = "xk8s.local/mtu"
"""Label: the MTU that the pod should have when it was created. A pod left by an earlier check is
useless once that has changed.
"""

_SMALL = 56
_SECONDS = 90.0


@frozen(kw_only=True)
class PodProbe:
    """A pod of the check: its node, addresses, a process in it, and the MTU of its interface."""

    node: str
    addresses: tuple[str, ...]
    pid: str
    mtu: int


@frozen(kw_only=True)
class PodNetwork:
    """What pods can expect of an overlay: ``mtu`` of their interfaces, in bytes (0: whatever they
    have); ``units`` of the nodes whose logs say why they have none.

    For an ``interface`` other than the first: the check's own ``name``, the ``annotations`` of pods
    that should have it, and by node the ``ranges`` (prefixes) of its addresses.
    """

    overlay: str
    mtu: int = 0
    units: tuple[str, ...] = ()
    name: str = "pod network"
    interface: str = "eth0"
    annotations: Mapping[str, str] = field(factory=dict)
    ranges: Mapping[str, tuple[str, ...]] = field(factory=dict)

    @property
    def pod(self) -> str:
        """Return the prefix of its pods' names: two checks do not share pods."""
        return f"xk8s-{self.name.replace(' ', '-')}"


def network_check(ctx: Context, network: PodNetwork) -> Check:
    """Return the check of an overlay that provides ``cni``."""
    return Check(
        name=network.name,
        run=functools.partial(reached, network=network),
        timeout=240.0 + 60.0 * len(addresses.kubernetes_nodes(ctx)),
        interval=1.0,
        explain=functools.partial(explain, network=network),
    )


def probe_pod(node: str, network: PodNetwork) -> dict[str, Any]:
    """Return the pod of a node. It is not scheduled: a node that is not chosen for pods
    counts too.
    """
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{network.pod}-{node}",
            "namespace": PROBE_NAMESPACE,
            "labels": {"app": network.pod, _MTU: str(network.mtu)},
            "annotations": dict(network.annotations),
        },
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "tolerations": [{"operator": "Exists"}],
            "containers": [
                {
                    "name": "probe",
                    "image": PROBE_IMAGE.ref,
                    "imagePullPolicy": "Never",
                    "command": [
                        "/busybox",
                        "sh",
                        "-c",
                        "while :; do /busybox sleep 9; done",
                        network.pod,  # for pgrep to find
                    ],
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


def reached(check: CheckContext, network: PodNetwork) -> str:
    """Check that the first pod reaches every pod, and that all reach the first one."""
    from xk8s_kubernetes.api import connect  # slow to import, and a plan has no use for it

    ctx = check.access.ctx
    api = connect(check.access.state_dir / "kubeconfig")
    names = [node.name for node in addresses.kubernetes_nodes(ctx)]
    given = _addresses(api, names, network, families=ctx.ipv4 + ctx.ipv6)
    first, *others = (_probe(check, name, given[name], network) for name in names)
    for probe in (first, *others):
        if network.mtu and probe.mtu != network.mtu:
            raise CheckFailed(
                f"pods of {probe.node} have an MTU of {probe.mtu}, and overlay {network.overlay} "
                f"should give them {network.mtu}"
            )
    for other in others:
        for source, target in ((first, other), (other, first)):
            for address in target.addresses:
                _sized(check, source, target, address)
    for name in names:
        api.delete(f"{_PODS}/{network.pod}-{name}")
    sizes = "/".join(str(mtu) for mtu in sorted({probe.mtu for probe in (first, *others)}))
    by = "" if network.interface == "eth0" else f" by {network.interface}"
    if not others:
        return f"a pod of {first.node} has an MTU of {sizes}{by}"
    return f"pods of {', '.join(names)} reach each other{by} with {sizes} bytes, and no more"


def explain(check: CheckContext, network: PodNetwork) -> str:
    """Return the pods' states, and the logs of those who make the network."""
    from xk8s_kubernetes.api import connect

    parts = []
    try:
        api = connect(check.access.state_dir / "kubeconfig")
        for pod in api.get(f"{_PODS}?labelSelector=app%3D{network.pod}")["items"]:
            state = pod["status"].get("containerStatuses", [{}])[0].get("state", {})
            parts.append(f"--- pod {pod['metadata']['name']}: {pod['status'].get('phase')} {state}")
    except NotYet as error:
        parts.append(str(error))
    for node in addresses.kubernetes_nodes(check.access.ctx):
        parts.append(journal(check, node.name, (*network.units, "kubelet")))
    return "\n".join(parts)


def _addresses(
    api: Api, names: list[str], network: PodNetwork, families: int
) -> Mapping[str, tuple[str, ...]]:
    """Return addresses of the running pod of each node; `NotYet` until all exist."""
    listed = api.get(f"{_PODS}?labelSelector=app%3D{network.pod}")["items"]
    pods = {pod["spec"]["nodeName"]: pod for pod in listed}
    leaving = []
    for name in names:
        if name not in pods:
            api.create(_PODS, probe_pod(name, network))
        elif "deletionTimestamp" in (metadata := pods[name]["metadata"]):
            leaving.append(name)
        elif metadata["labels"].get(_MTU) != str(network.mtu):
            api.delete(f"{_PODS}/{network.pod}-{name}")
            leaving.append(name)
    if leaving:
        raise NotYet(f"pods that an earlier check left on {', '.join(leaving)} are not gone yet")
    found = {}
    for name in names:
        status = pods[name]["status"] if name in pods else {}
        ips = tuple(address["ip"] for address in status.get("podIPs", ()))
        if status.get("phase") != "Running" or len(ips) < families:
            raise NotYet(f"pod {network.pod}-{name}: {status.get('phase', 'not made yet')}")
        found[name] = ips
    return found


def _probe(check: CheckContext, node: str, ips: tuple[str, ...], network: PodNetwork) -> PodProbe:
    # The pattern ends after it: the name of one check may begin with that of another.
    pid = check.ok(node, "pgrep", "--oldest", "--full", f"done {network.pod}$").strip()
    said = check.ok(node, "nsenter", "-t", pid, "-n", "ip", "-json", "address", "show")
    links = {link["ifname"]: link for link in json.loads(said)}
    if (link := links.get(network.interface)) is None:
        raise CheckFailed(
            f"the pod of {node} has no {network.interface}, which overlay {network.overlay} was to "
            f"give it: it has {', '.join(links)}"
        )
    if network.ranges:
        ips = _own_addresses(node, link, network)
    return PodProbe(node=node, addresses=ips, pid=pid, mtu=int(link["mtu"]))


def _own_addresses(node: str, link: Mapping[str, Any], network: PodNetwork) -> tuple[str, ...]:
    """Return addresses of an interface that the API server knows nothing about: one of each
    range.
    """
    found = []
    shown = [address["local"] for address in link["addr_info"] if address.get("scope") == "global"]
    for prefix in map(ipaddress.ip_network, network.ranges[node]):
        mine = [text for text in shown if ipaddress.ip_address(text) in prefix]
        if not mine:
            raise CheckFailed(
                f"{network.interface} of the pod of {node} has no address of {prefix}: it has "
                f"{', '.join(shown) or 'none'}"
            )
        found += mine
    return tuple(found)


def _sized(check: CheckContext, source: PodProbe, target: PodProbe, address: str) -> None:
    """Check that the largest packet arrives, and that one byte more does not leave."""
    largest = source.mtu - _HEADERS[ipaddress.ip_address(address).version]
    way = f"pod of {source.node} to {address} on {target.node}"
    if _ping(check, source, address, largest):
        if lost := _ping(check, source, address, _SMALL):
            raise NotYet(f"{way}: {lost}")
        # Again: the route may have appeared between the two, and then the size is not to blame.
        if why := _ping(check, source, address, largest):
            raise CheckFailed(
                f"{way}: {source.mtu} bytes, the MTU of the pod, do not arrive, small packets do: "
                f"{why}; kubernetes.pod_mtu must not be larger than what the network between the "
                "nodes takes, 0 is what fits"
            )
    if not _ping(check, source, address, largest + 1):
        raise CheckFailed(f"{way}: one byte more than the MTU of {source.mtu} arrives unfragmented")


def _ping(check: CheckContext, source: PodProbe, address: str, size: int) -> str:
    """Send up to three pings, none of which may be fragmented; return "" if one is answered,
    otherwise ping's output.
    """
    words = f"nsenter -t {source.pid} -n ping -n -c 1 -W 3 -M do -s {size} {address}"
    said = ""
    for _ in range(3):
        try:
            result = check.access.run(source.node, words.split(), timeout=_SECONDS)
        except (TimeoutError, Xk8sError) as error:
            raise NotYet(f"{source.node}: ping: {error}") from error
        if result.exit_code == 0:
            return ""
        said = (result.stdout + result.stderr).decode(errors="replace")
        if "too long" in said:
            break  # it is not even sent
    lines = [line for line in said.splitlines() if line.strip()]
    reasons = [line for line in lines if "mtu" in line or line.startswith("From ")]
    return next(iter(reasons or lines[-1:]), f"ping ended with {result.exit_code}")
