"""Settings of the overlay ``crio``."""

from __future__ import annotations

from typing import Literal

from attrs import frozen
from xk8s.limits import release
from xk8s.overlay import setting
from xk8s.own_programs import own_programs

MEMBERS = ("crio", "pinns")
"""Programs that only CRI-O's own build or release contains."""

DEFAULT_VERSION = "1.36.3"


@frozen(kw_only=True)
class CrioSettings:
    """Settings that users can change."""

    version: str = setting(
        DEFAULT_VERSION, "release of CRI-O, of the same minor as Kubernetes", limit=release()
    )
    dir: str = setting(
        "",
        "directory with your own crio and pinns; conmon, crictl and the runtime are optional",
        env="XK8S_CRIO_DIR",
        pin=own_programs(*MEMBERS, "conmon", "crictl", "crun", "runc"),
    )
    runtime: Literal["crun", "runc"] = setting("crun", "OCI runtime that starts containers")
    cgroup_driver: Literal["cgroupfs", "systemd"] = setting(
        "cgroupfs", "who creates the cgroups of pods; kubelet asks CRI-O for it"
    )
    log_level: Literal["trace", "debug", "info", "warn", "error"] = setting(
        "warn", "log level of CRI-O in the journal"
    )
