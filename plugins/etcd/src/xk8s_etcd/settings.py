"""Settings of the overlay ``etcd``."""

from __future__ import annotations

from attrs import frozen
from xk8s.overlay import setting


@frozen(kw_only=True)
class EtcdSettings:
    """Settings that users can change."""

    version: str = setting("3.5.16", "release to download; Debian's package has its own version")
    dir: str = setting("", "directory with your own etcd and etcdctl", env="ETCDD")
    args: tuple[str, ...] = setting((), "additional arguments for etcd, e.g. --log-level=debug")
    size: str = setting("256M", "limit of the memory file system that holds the data")
