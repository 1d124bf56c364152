"""Settings of the overlay ``etcd``."""

from __future__ import annotations

from attrs import frozen
from xk8s.limits import each, line, release, size, size_in_bytes
from xk8s.overlay import setting
from xk8s.own_programs import own_programs

MEMBERS = ("etcd", "etcdctl")

WALS = 192 << 20
"""Room for the write-ahead log, in segments of 64 MiB that etcd allocates at once: the one that is
written, the next one, which is always prepared, and one that is kept. Older ones go every 30 s.
"""


@frozen(kw_only=True)
class EtcdSettings:
    """Settings that users can change."""

    version: str = setting(
        "3.5.16",
        "release to download; Debian's package has its own version",
        limit=release("3.5"),
    )
    dir: str = setting(
        "", "directory with your own etcd and etcdctl", env="ETCDD", pin=own_programs(*MEMBERS)
    )
    args: tuple[str, ...] = setting(
        (), "additional arguments for etcd, e.g. --log-level=debug", limit=each(line(empty=False))
    )
    size: str = setting(
        "512M",
        "size of the volume that holds the data: 192M are for the log, and half of the rest for "
        "the database",
        limit=size("256M", "64G"),
    )

    @property
    def quota(self) -> int:
        """Bytes of the database beyond which etcd refuses to grow it (an alarm, which `etcdctl`
        ends): as much again is free, for compacting it and for bursts of the log.
        """
        return (size_in_bytes(self.size) - WALS) // 2
