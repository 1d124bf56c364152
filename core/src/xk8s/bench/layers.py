"""Comparison ``layers``: the same files, stacked as they are or unpacked at boot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from xk8s.bench.comparison import About, Comparison, Prepared, Quantity, Way
from xk8s.bench.lab import Lab
from xk8s.bench.tars import real_init, tar_disk
from xk8s.bench.vm import Parts, Vm, parts, switched_on
from xk8s.errors import BuildError

LAYERS = About(
    name="layers",
    title="EROFS layers (xk8s)",
    how="Every layer is a read-only EROFS disk; the initramfs stacks them with overlayfs and "
    "nothing is unpacked.",
)
TARS = About(
    name="tars",
    title="tars unpacked (xcluster)",
    how="The base image is the same disk; every other layer is a plain tar file on a second disk, "
    "and /sbin/init unpacks them over the root (a tmpfs) in the order of their names, as xcluster "
    "did.",
)

QUANTITIES = (
    Quantity(name="systemd", title="kernel start to systemd", unit="s"),
    Quantity(name="login", title="power-on to the login prompt", unit="s"),
    Quantity(name="memory", title="memory used in the guest at the prompt", unit="MiB"),
)


def prepare(lab: Lab) -> Prepared:
    """Both disks, of one node's files."""
    plan = lab.plan("cluster.nodes=1", "cluster.routers=0", "cluster.testers=0")
    made = parts(plan, lab.progress, lab.scratch, lab.held)
    # Ready images are the base system: in the seed, too, that is a disk.
    ready = {one.layer.name for one in plan.layers if one.layer.image is not None}
    base = [one for one in made.stack if one[0] in ready]
    above = [one for one in made.stack if one[0] not in ready]
    if not base:
        raise BuildError("no overlay brings a ready image of a base system", where="layers")
    disk = lab.scratch / "tars.erofs"
    with lab.progress.stage("tar files"):
        size, some = tar_disk(above, real_init(base[0][1]), disk)
    # Both have the same: what is unpacked must fit into the tmpfs, which takes half of it.
    memory = made.node.node.memory + 2 * (size >> 20)

    def run(disks: list[tuple[str, Path]]) -> Mapping[str, float]:
        try:
            with switched_on(made, disks, memory=memory) as vm:
                return _measured(vm, made, some)
        finally:
            lab.down()

    return Prepared(
        quantities=QUANTITIES,
        ways=(
            Way(about=LAYERS, run=lambda: run(list(made.stack))),
            Way(about=TARS, run=lambda: run([*base, ("tars", disk)])),
        ),
        plans=(plan,),
    )


def _measured(vm: Vm, made: Parts, some: list[str]) -> Mapping[str, float]:
    login = vm.seconds_to(made.prompt)
    # Before anything else is asked for: that takes memory, too.
    fields = dict(
        line.split(":", 1) for line in vm.said(["cat", "/proc/meminfo"]).splitlines() if ":" in line
    )
    used = int(fields["MemTotal"].split()[0]) - int(fields["MemAvailable"].split()[0])
    # What was not unpacked would make for a quick start.
    vm.said(["ls", "-d", *some])
    stamp = ["systemctl", "show", "--value", "--property=UserspaceTimestampMonotonic"]
    return {"systemd": int(vm.said(stamp)) / 1e6, "login": login, "memory": used / 1024}


COMPARISON = Comparison(
    name="layers",
    summary="The same files in a VM: stacked layers against tars unpacked at boot",
    series=(LAYERS, TARS),
    quantities=QUANTITIES,
    prepare=prepare,
)
