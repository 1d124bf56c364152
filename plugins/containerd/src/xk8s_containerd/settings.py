"""Settings of the overlay ``containerd``."""

from __future__ import annotations

from typing import Literal

from attrs import frozen
from xk8s.limits import release
from xk8s.overlay import setting
from xk8s.own_programs import own_programs

MEMBERS = ("containerd", "containerd-shim-runc-v2", "ctr")

DEFAULT_VERSION = "2.4.2"


@frozen(kw_only=True)
class ContainerdSettings:
    """Settings that users can change."""

    version: str = setting(
        DEFAULT_VERSION, "release of containerd, 2.0 or later", limit=release("2.0")
    )
    dir: str = setting(
        "",
        "directory with any of your own containerd, shim and ctr",
        env="CONTAINERDD",
        pin=own_programs(*MEMBERS),
    )
    runtime: Literal["crun", "runc"] = setting("crun", "OCI runtime that starts containers")
    runtime_dir: str = setting(
        "", "directory with your own crun or runc", pin=own_programs("crun", "runc")
    )
    cgroup_driver: Literal["cgroupfs", "systemd"] = setting(
        "cgroupfs", "who creates the cgroups of pods; kubelet asks containerd for it"
    )
    log_level: Literal["trace", "debug", "info", "warn", "error"] = setting(
        "warn", "log level of containerd in the journal"
    )
