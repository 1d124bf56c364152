"""The plan as JSON data: for `xk8s plan --json`, and as input of its digests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from xk8s.artifact_keys import artifact_key
from xk8s.overlay import BootImage, Take
from xk8s.util.digest import digest, plain

if TYPE_CHECKING:
    from xk8s.planning.plan import Plan, PlannedNode


def plan_json(plan: Plan) -> dict[str, object]:
    """Return a whole plan; file contents and checks appear as digests and names."""
    return {
        "version": 1,
        "name": plan.name,
        "digest": plan.digest,
        "overlays": [
            {
                "name": planned.offer.name,
                "distribution": planned.offer.distribution,
                "version": planned.offer.version,
                "summary": planned.summary,
                "asked_by": list(planned.asked_by),
            }
            for planned in plan.overlays
        ],
        "choices": [attrs.asdict(choice) for choice in plan.choices],
        "settings": {
            value.key: {"value": plain(value.value), "origin": value.origin}
            for value in plan.settings
        },
        "artifacts": [
            {"name": artifact.name, "version": artifact.version, "key": artifact_key(artifact)}
            for artifact in plan.artifacts
        ],
        "layers": [
            {
                "name": planned.layer.name,
                "overlay": planned.overlay,
                "digest": planned.digest,
                "roles": sorted(planned.layer.roles),
                "paths": sorted(entry.path for entry in planned.layer.entries),
            }
            for planned in plan.layers
        ],
        "directories": [attrs.asdict(directory) for directory in plan.directories],
        "networks": [attrs.asdict(network) for network in plan.ctx.networks],
        "routes": list(plan.routes),
        "boot": boot_json(plan.boot),
        "nodes": [node_json(node) for node in plan.nodes],
        "checks": [check.name for check in plan.checks],
    }


def take_json(take: Take) -> dict[str, object]:
    """Return a member of an artifact, which counts by its key."""
    return {
        "artifact": artifact_key(take.artifact),
        "member": take.member,
        "path": take.path,
        "mode": take.mode,
    }


def boot_json(boot: BootImage) -> dict[str, object]:
    """Return kernel, initramfs and arguments."""
    return {
        "kernel": take_json(boot.kernel),
        "initramfs": take_json(boot.initramfs),
        "kernel_args": list(boot.kernel_args),
        "template": boot.template,
    }


def node_json(planned: PlannedNode) -> dict[str, object]:
    """Return a VM."""
    node = planned.node
    return {
        "name": node.name,
        "role": node.role,
        "cpus": node.cpus,
        "memory_mib": node.memory,
        "nics": [attrs.asdict(nic) for nic in node.nics],
        "layers": list(planned.layers),
        "files": {file.path: digest(file) for file in planned.files},
        "kernel_args": list(planned.kernel_args),
        "qemu_args": list(planned.qemu_args),
        "forwards": [attrs.asdict(forward) for forward in planned.forwards],
        "volumes": [attrs.asdict(volume) for volume in planned.volumes],
    }
