"""Faults of etcd."""

from __future__ import annotations

from xk8s.overlay import Fault

FAULTS = (
    Fault(
        name="etcd-full",
        pattern=r"mvcc: database space exceeded|etcdserver: no space|"
        r"/var/lib/etcd/\S*: no space left on device",
        cause="etcd's store is full",
        remedy="enlarge it: -s etcd.size=1G (`xk8s explain etcd.size`), and give the "
        "control plane that much more memory",
        examples=(
            "etcdserver: mvcc: database space exceeded",
            "write /var/lib/etcd/data/member/wal/0.tmp: no space left on device",
        ),
    ),
)
