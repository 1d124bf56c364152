"""Requirements of Kubernetes for the guest's kernel, by mode of kube-proxy."""

from __future__ import annotations

from collections.abc import Mapping

from xk8s.overlay import NODE_ROLES, KernelNeeds

from xk8s_kubernetes.settings import ProxyMode

_CONFIG = (
    "BPF_SYSCALL",
    "CFS_BANDWIDTH",
    "CGROUPS",
    "CGROUP_BPF",
    "CGROUP_CPUACCT",
    "CGROUP_DEVICE",
    "CGROUP_FREEZER",
    "CGROUP_PIDS",
    "CGROUP_SCHED",
    "CPUSETS",
    # Random numbers for the first keys, from the device that xk8s_boot adds.
    "HW_RANDOM_VIRTIO",
    "INOTIFY_USER",
    "IPC_NS",
    # kernel.keys.root_maxbytes
    "KEYS",
    "MEMCG",
    "NAMESPACES",
    "NET_NS",
    "OVERLAY_FS",
    "PID_NS",
    "POSIX_MQUEUE",
    "SECCOMP_FILTER",
    # kubelet reads /proc/swaps.
    "SWAP",
    "UTS_NS",
)

_MODULES = ("br_netfilter", "bridge", "dummy", "nf_conntrack", "overlay", "veth", "vxlan")

# Masquerading of pods and port mappings use nftables in every mode; Debian's iptables is a
# front end of nftables, with the matches of xtables by way of nft_compat.
_NFTABLES = ("nf_tables", "nft_chain_nat", "nft_ct", "nft_masq", "nft_nat")
_XTABLES = (
    "nft_compat",
    "xt_MASQUERADE",
    "xt_addrtype",
    "xt_comment",
    "xt_conntrack",
    "xt_mark",
    "xt_nat",
    "xt_statistic",
    "xt_tcpudp",
)

_PROXY: Mapping[ProxyMode, tuple[str, ...]] = {
    "nftables": ("nft_fib_inet", "nft_numgen", "nft_reject_inet"),
    "iptables": _XTABLES,
    "ipvs": (
        *_XTABLES,
        "ip_set",
        "ip_set_bitmap_port",
        "ip_set_hash_ip",
        "ip_set_hash_ipport",
        "ip_set_hash_ipportip",
        "ip_set_hash_ipportnet",
        "ip_set_hash_net",
        "ip_vs",
        "ip_vs_rr",
        "ip_vs_sh",
        "ip_vs_wrr",
        "xt_set",
    ),
}

_LOAD = ("br_netfilter", "nf_conntrack")
"""Modules loaded at boot: their sysctls must exist before systemd sets them."""

_LOAD_IPVS = ("ip_vs", "ip_vs_rr", "ip_vs_sh", "ip_vs_wrr")
"""Modules that kube-proxy looks for and cannot load by itself."""


def kernel_needs(proxy_mode: ProxyMode) -> KernelNeeds:
    """Return symbols and modules for the nodes."""
    config = ("IP_VS_NFCT", "IP_VS_PROTO_TCP", "IP_VS_PROTO_UDP") if proxy_mode == "ipvs" else ()
    return KernelNeeds(
        config=(*_CONFIG, *config),
        modules=tuple(sorted({*_MODULES, *_NFTABLES, *_PROXY[proxy_mode]})),
        load=(*_LOAD, *(_LOAD_IPVS if proxy_mode == "ipvs" else ())),
        roles=NODE_ROLES,
    )


SYSCTL = "cluster.sysctl"

SYSCTLS: Mapping[str, str] = {
    "net.ipv4.ip_forward": "1",
    "net.ipv6.conf.all.forwarding": "1",
    # Pods of one node reach each other through the bridge, and Services must see the answers.
    "net.bridge.bridge-nf-call-iptables": "1",
    "net.bridge.bridge-nf-call-ip6tables": "1",
    # Every watch of a configmap or log is one.
    "fs.inotify.max_user_instances": "8192",
    "fs.inotify.max_user_watches": "524288",
}
