"""What to look at when something is wrong: objects with kubectl, logs, tables of kube-proxy."""

from __future__ import annotations

from collections.abc import Iterator

from xk8s.context import Context
from xk8s.overlay import NODE_ROLES, GuestNeeds, LogFiles, Observation, Role

from xk8s_kubernetes.settings import CONTROL, KubernetesSettings, ProxyMode

_CONTROL: frozenset[Role] = frozenset({"control-plane"})
_LINES = "2000"
_POD_LINES = "200"

# Status only: a pod's specification may have passwords in its environment.
_STATUS = (
    '{range .items[*]}{.metadata.namespace}/{.metadata.name} on {.spec.nodeName}{"\\n"}'
    '{.status}{"\\n\\n"}{end}'
)
# The time first, to distinguish what is over from what continues. Events have it here or there.
_EVENTS = (
    "{{range .items}}"
    "{{if .lastTimestamp}}{{.lastTimestamp}}{{else}}{{.eventTime}}{{end}} "
    "{{with .involvedObject}}{{.kind}}/{{with .namespace}}{{.}}/{{end}}{{.name}}{{end}}: "
    "{{.reason}}: {{.message}}{{with .count}} ({{.}} times){{end}}"
    '{{"\\n"}}{{end}}'
)

_KUBECTL = {
    # Few calls: each start of kubectl costs seconds without KVM.
    "kubectl/objects": (
        "nodes,pods,deployments,daemonsets,replicasets,services,endpointslices",
        "wide",
    ),
    "kubectl/network.yaml": ("nodes,services,endpointslices", "yaml"),
    "kubectl/pods": ("pods", f"jsonpath={_STATUS}"),
    "kubectl/events": ("events", f"go-template={_EVENTS}"),
}

_PROGRAMS = ("bash", "curl", "ip", "mount", "nsenter", "pgrep", "ping", "tee", "umount")
"""kubelet calls mount and umount, checks what looks into pods' networks, our units the others."""

_PROXY_PROGRAMS: dict[ProxyMode, tuple[str, ...]] = {
    "nftables": (),
    "iptables": ("iptables", "iptables-restore", "iptables-save", "ip6tables"),
    "ipvs": ("ipset", "iptables", "iptables-restore", "iptables-save", "ip6tables", "modprobe"),
}


def guest_needs(ctx: Context) -> GuestNeeds:
    """Return what the base system must provide for kubelet, kube-proxy, the checks and the units
    here.
    """
    mode = ctx.settings(KubernetesSettings).proxy_mode
    return GuestNeeds(
        programs=(*_PROGRAMS, "nft", *_PROXY_PROGRAMS[mode]),
        # Every pod sandbox is created with the one, the pods of the checks run the other.
        files=("/etc/resolv.conf", "/usr/bin/busybox"),
        roles=NODE_ROLES,
    )


def observations(ctx: Context) -> Iterator[Observation]:
    """Return logs first, kubectl last: it has to wait if the API server does not answer."""
    for component in CONTROL:
        yield _log(component, _CONTROL)
    for component in ("kubelet", "kube-proxy"):
        yield _log(component, NODE_ROLES)
    containers = f"find /var/log/pods -name *.log -exec tail -v -n {_POD_LINES} {{}} +"
    # Searched: clients of the API in pods say what they lack.
    yield Observation(
        name="containers", argv=tuple(containers.split()), roles=NODE_ROLES, searched=True
    )
    cni = ("find", "/etc/cni", "/opt/cni", "/run/cni", "-ls")
    yield Observation(name="cni", argv=cni, roles=NODE_ROLES)
    if ctx.settings(KubernetesSettings).proxy_mode == "ipvs":
        yield Observation(name="network/ipvs", argv=("ipvsadm", "-Ln"), roles=NODE_ROLES)
    for name, (kinds, output) in _KUBECTL.items():
        yield Observation(
            name=name,
            argv=("kubectl", "get", kinds, "-A", "-o", output, "--request-timeout=20s"),
            roles=_CONTROL,
            searched=name == "kubectl/events",
        )


def log_files() -> Iterator[LogFiles]:
    """Return ``xk8s logs pod/NAME`` or pod/NAMESPACE/NAME, with or without what a Deployment
    appends.
    """
    root = "/var/log/pods"
    yield LogFiles(
        kind="pod",
        directory=root,
        # The directory is NAMESPACE_NAME_UID.
        paths=tuple(
            f"{root}/{{scope}}_{pattern}_*/{{part}}/*.log" for pattern in ("{name}", "{name}-*")
        ),
        roles=NODE_ROLES,
    )


def _log(component: str, roles: frozenset[Role]) -> Observation:
    return Observation(
        name=f"log/{component}.log",
        argv=("tail", "-n", _LINES, f"/var/log/{component}.log"),
        roles=roles,
    )
