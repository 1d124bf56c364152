"""Whether VMs that run can become those of another plan without being booted again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from xk8s.cluster.inputs import ClusterInputs
from xk8s.cluster.state.booted import BootedCluster, BootedNode, boot_of, planned_boot
from xk8s.cluster.state.guest_files import GuestFiles
from xk8s.errors import PlanError
from xk8s.machine.qemu.accelerator import decide
from xk8s.planning.plan import Plan, PlannedLayer


def refuse(boot: BootedCluster, now: GuestFiles, inputs: ClusterInputs) -> None:
    """Raise `PlanError` that names everything that takes a reboot."""
    _refuse(boot, obstacles(boot, now, inputs))


def refuse_plan(boot: BootedCluster, plan: Plan) -> None:
    """Raise the same error as far as a plan tells, before a base system is made for nothing."""
    accel = decide(plan.cluster.accel)
    _refuse(boot, dict.fromkeys(_machines(boot, planned_boot(plan, accel, {}))))


def _refuse(boot: BootedCluster, found: Collection[str]) -> None:
    if found:
        raise PlanError(
            f"cannot be applied to a running cluster: {'; '.join(found)}",
            where=f"cluster {boot.cluster!r}",
            hint="xk8s down, then xk8s up with these overlays and settings; for a different "
            "number of nodes alone: xk8s scale",
        )


def obstacles(boot: BootedCluster, now: GuestFiles, inputs: ClusterInputs) -> tuple[str, ...]:
    """Return what in the plan takes a reboot, in words; empty if nothing does."""
    return tuple(dict.fromkeys((*_machines(boot, boot_of(inputs)), *_layers(now, inputs))))


def _machines(boot: BootedCluster, new: BootedCluster) -> Iterator[str]:
    if (boot.kernel, boot.initrd) != (new.kernel, new.initrd):
        yield "kernel or initramfs changed"
    if boot.accel.args != new.accel.args:
        yield f"accelerator changed ({new.accel.name})"
    if boot.networks != new.networks:
        yield "networks changed"
    old = {planned.node.name: planned for planned in boot.nodes}
    names = [planned.node.name for planned in new.nodes]
    if more := [name for name in names if name not in old]:
        yield f"more nodes ({', '.join(more)})"
    if less := [name for name in old if name not in names]:
        yield f"fewer nodes (without {', '.join(less)})"
    for planned in new.nodes:
        if planned.node.name in old:
            yield from _node(old[planned.node.name], planned)


def _node(old: BootedNode, new: BootedNode) -> Iterator[str]:
    name = new.node.name
    if old.node.cpus != new.node.cpus:
        yield f"{name} has {new.node.cpus} CPUs"
    if old.node.memory != new.node.memory:
        yield f"{name} has {new.node.memory} MiB of memory"
    if (old.node.role, old.node.nics) != (new.node.role, new.node.nics):
        yield f"role or interfaces of {name} changed"
    for what, before, after in (
        ("kernel arguments", old.kernel_args, new.kernel_args),
        ("QEMU arguments", old.qemu_args, new.qemu_args),
    ):
        if before != after:
            yield f"{what} of {name} changed ({_changed(before, after)})"
    if [(f.name, f.guest_port) for f in old.forwards] != [
        (f.name, f.guest_port) for f in new.forwards
    ]:
        yield f"port forwards of {name} changed"
    if old.volumes != new.volumes:
        yield f"volumes of {name} changed"


def _changed(before: Sequence[str], after: Sequence[str]) -> str:
    words = [f"+{word}" for word in after if word not in before]
    words += [f"-{word}" for word in before if word not in after]
    return " ".join(words) or "in a different order"


def _layers(now: GuestFiles, inputs: ClusterInputs) -> Iterator[str]:
    plan = inputs.plan
    bases = {
        overlay.offer.name
        for overlay in plan.overlays
        if overlay.offer.name not in {local.directory for local in plan.directories}
        and "base" in plan.registry.overlay(overlay.offer.name).provides
    }

    def fixed(planned_layer: PlannedLayer) -> bool:
        return planned_layer.overlay in bases or bool(
            planned_layer.layer.image and not planned_layer.layer.applied_by_hook
        )

    for planned in plan.nodes:
        there = dict(now.nodes[planned.node.name].stack) if planned.node.name in now.nodes else {}
        for planned_layer in plan.layers:
            name = planned_layer.layer.name
            if (
                name in planned.layers
                and fixed(planned_layer)
                and there.get(name) != inputs.layers[name].key
            ):
                yield f"layer {name} of overlay {planned_layer.overlay} changed"
