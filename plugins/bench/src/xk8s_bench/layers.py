"""Comparison ``layers``: the same files, stacked as they are or unpacked at boot.

Services of overlays above the base are not started, in both: see `make_masks`.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from xk8s.build.layers.build import stage_entries
from xk8s.build.layers.erofs_read import open_image
from xk8s.build.layers.erofs_write import make_image
from xk8s.errors import BuildError
from xk8s.overlay import Symlink

from xk8s_bench.comparison import Comparison, Prepared, Quantity, Way
from xk8s_bench.lab import Lab
from xk8s_bench.result import About
from xk8s_bench.tars import real_init, tar_disk
from xk8s_bench.vm import Parts, Vm, parts, switched_on, used

LAYERS = About(
    name="layers",
    title="EROFS layers (xk8s)",
    how="Every layer is a read-only EROFS image in memory that VMs share; the initramfs stacks "
    "them with overlayfs and nothing is unpacked.",
)
TARS = About(
    name="tars",
    title="tars unpacked (xcluster)",
    how="The base image is the same; every other layer is a plain tar file in a second image, "
    "and /sbin/init unpacks them over the root (a tmpfs) in the order of their names, as xcluster "
    "did.",
)

_WANTED = re.compile(r"/(?:etc|usr/lib)/systemd/system/[^/]+\.(?:wants|requires)/([^/]+)")

QUANTITIES = (
    Quantity(name="systemd", title="kernel start to systemd", unit="s"),
    Quantity(name="login", title="power-on to the login prompt", unit="s"),
    Quantity(name="memory", title="memory used in the guest at the prompt", unit="MiB"),
)


def prepare(lab: Lab) -> Prepared:
    """Both ways, of one node's files."""
    plan = lab.plan_of_nodes(1)
    made = parts(plan, lab.progress, lab.scratch, lab.held)
    # Ready images are the base system: in the seed, too, that is a disk.
    ready = {
        planned.layer.name: planned.overlay
        for planned in plan.layers
        if planned.layer.image is not None
    }
    if not ready:
        raise BuildError("no overlay brings a ready image of a base system", where="layers")
    others = {
        planned.layer.name for planned in plan.layers if planned.overlay not in ready.values()
    }
    masks = lab.scratch / "masks.erofs"
    make_masks([path for name, path in made.stack if name in others], masks)
    stack = [*made.stack, ("masks", masks)]
    base = [layer for layer in stack if layer[0] in ready]
    above = [layer for layer in stack if layer[0] not in ready]
    disk = lab.scratch / "tars.erofs"
    with lab.progress.stage("tar files"):
        size, some = tar_disk(above, real_init(base[0][1]), disk)
    # Both have the same: what is unpacked must fit into the tmpfs, which takes half of it.
    memory = made.node.node.memory + 2 * (size >> 20)

    def run(layers: list[tuple[str, Path]]) -> Mapping[str, float]:
        try:
            with switched_on(made, layers, memory=memory) as vm:
                return _measured(vm, made, some)
        finally:
            lab.down()

    return Prepared(
        quantities=QUANTITIES,
        ways=(
            Way(about=LAYERS, run=lambda: run(stack)),
            Way(about=TARS, run=lambda: run([*base, ("tars", disk)])),
        ),
        plans=(plan,),
    )


def make_masks(layers: Iterable[Path], out: Path) -> list[str]:
    """Make one more layer that keeps the units which ``layers`` (images) want from being started;
    return their names. It is the files that are compared: a control plane without keys and network
    would fight for the CPU meanwhile, and the more the sooner its files exist.
    """
    found: set[str] = set()
    for path in layers:
        with open_image(path) as image:
            found |= {
                match[1] for entry in image.walk() if (match := _WANTED.fullmatch(entry.path))
            }
    masks = [Symlink(path=f"/etc/systemd/system/{name}", target="/dev/null") for name in found]
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        stage_entries(masks, {}, Path(scratch, "tree"), label="layer masks")
        make_image(Path(scratch, "tree"), out)
    return sorted(found)


def _measured(vm: Vm, made: Parts, some: list[str]) -> Mapping[str, float]:
    login = vm.seconds_to(made.prompt)
    # Before anything else is asked for: that takes memory, too.
    memory = used(vm.said(["cat", "/proc/meminfo"]))
    # What was not unpacked would make for a quick start.
    vm.said(["ls", "-d", *some])
    stamp = ["systemctl", "show", "--value", "--property=UserspaceTimestampMonotonic"]
    return {"systemd": int(vm.said(stamp)) / 1e6, "login": login, "memory": memory}


COMPARISON = Comparison(
    name="layers",
    summary="The same files in a VM: stacked layers against tars unpacked at boot",
    series=(LAYERS, TARS),
    quantities=QUANTITIES,
    prepare=prepare,
)
