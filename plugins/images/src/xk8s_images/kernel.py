"""Kernel features that containers need, whichever runtime starts them."""

from __future__ import annotations

from xk8s.overlay import NODE_ROLES, KernelNeeds

CONTAINER_NEEDS = KernelNeeds(
    config=(
        "CGROUPS", "CGROUP_CPUACCT", "CGROUP_DEVICE", "CGROUP_PIDS", "CGROUP_SCHED", "CPUSETS",
        "MEMCG", "CGROUP_BPF", "NAMESPACES", "NET_NS", "PID_NS", "IPC_NS", "UTS_NS",
        "OVERLAY_FS", "SECCOMP_FILTER", "KEYS", "POSIX_MQUEUE", "VETH", "BRIDGE",
    ),
    modules=("overlay", "veth", "bridge"),
    load=("overlay",),
    roles=NODE_ROLES,
)  # fmt: skip
