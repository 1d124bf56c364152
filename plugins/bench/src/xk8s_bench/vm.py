"""One VM alone, without a cluster around it: from power-on to a line on its console, or its end.

It is the VM that `xk8s up` boots: `launch.spec` makes its machine, `choose_backing` places its RAM,
and its interfaces are on the cluster's bridges. Only its layers may be others.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
from attrs import frozen
from xk8s.build.layers.node_layer import make_node_image
from xk8s.cluster.inputs import ClusterInputs
from xk8s.cluster.prepare import build
from xk8s.cluster.state.booted import boot_of
from xk8s.cluster.state.node_paths import CONSOLES, qemu_log
from xk8s.cluster.vms import launch
from xk8s.cluster.vms.boot_console import boot_error, wait_for_line
from xk8s.cluster.vms.memory_room import choose_backing
from xk8s.cluster.vms.ram import memory_of
from xk8s.errors import MachineError
from xk8s.machine.qemu import process
from xk8s.machine.qemu.accelerator import decide
from xk8s.machine.qemu.agent import Agent
from xk8s.machine.qemu.command import MachineSpec
from xk8s.planning.plan import NODE_LAYER, Plan, PlannedNode
from xk8s.progress import Progress, Silent
from xk8s.util.host_memory import parse_meminfo
from xk8s.util.paths import make_private, runtime_dir, runtime_root, state_dir

SECONDS = 600.0
"""After which a guest that says nothing is given up."""

_STEP = 0.01


@frozen(kw_only=True)
class Parts(ClusterInputs):
    """What the VM of a plan's first node is made of."""

    own: Path
    """Its own layer, without keys: services that need them do not start."""

    @property
    def node(self) -> PlannedNode:
        """The first node."""
        return self.plan.nodes[0]

    @property
    def stack(self) -> tuple[tuple[str, Path], ...]:
        """Name and image of each layer, lowest first."""
        return tuple(
            (name, self.own if name == NODE_LAYER else self.layers[name].path)
            for name in self.plan.stack(self.node)
        )

    @property
    def prompt(self) -> str:
        """What the console shows when somebody could type."""
        return f"{self.node.node.name} ~ #"


def parts(plan: Plan, progress: Progress, scratch: Path, held: ExitStack) -> Parts:
    """Fetch and build what is missing; no image is removed by others until ``held`` is closed."""
    accel = decide(plan.cluster.accel)
    resolved, layers = build(plan, progress, held)
    own = scratch / f"{plan.digest[:12]}-node.erofs"
    make_node_image(plan.nodes[0].files, own)
    return Parts(plan=plan, accel=accel, resolved=resolved, layers=layers, own=own)


@frozen(kw_only=True)
class Vm:
    """A VM that was just started."""

    running: process.Spawned
    since: float
    """When it was switched on, of `time.monotonic`."""

    @property
    def spec(self) -> MachineSpec:
        """What it was started as."""
        return self.running.spec

    @property
    def agent(self) -> Agent:
        """Return the agent of its guest."""
        return Agent(self.spec.sockets.agent, self.spec.name)

    def seconds_to(self, text: str) -> float:
        """Measure from power-on until the console shows ``text``. `MachineError` with the console's
        end if the VM ends or stays silent before that.
        """
        wait_for_line(self.running, text, SECONDS)
        return time.monotonic() - self.since

    def seconds_to_end(self) -> float:
        """Measure from power-on until QEMU is gone; `MachineError` if it stays."""
        while self.running.process.alive:
            if time.monotonic() - self.since > SECONDS:
                raise boot_error(self.spec, f"it did not power off in {SECONDS:.0f} s")
            time.sleep(_STEP)
        return time.monotonic() - self.since

    def said(self, argv: Sequence[str]) -> str:
        """Return what a command in the guest prints; `MachineError` when it fails."""
        self.agent.wait(60.0)
        done = self.agent.exec(argv)
        if done.exit_code != 0:
            raise MachineError(
                f"{self.spec.name}: {argv[0]} failed: exit code {done.exit_code}",
                log=done.stderr.decode(errors="replace"),
            )
        return done.stdout.decode(errors="replace")


def used(meminfo: str) -> float:
    """Return MiB in use, from the text of /proc/meminfo: what could not be freed without swapping,
    so files of a tmpfs count and the page cache does not.
    """
    fields = parse_meminfo(meminfo)
    return (fields["MemTotal"] - fields["MemAvailable"]) / (1 << 20)


@contextmanager
def switched_on(
    made: Parts,
    layers: Sequence[tuple[str, Path]],
    *,
    memory: int | None = None,
    kernel_args: Sequence[str] = (),
) -> Iterator[Vm]:
    """A VM with these layers (name, image), as long as the block runs. ``memory`` is in MiB."""
    cluster = made.plan.name
    make_private(runtime_root())
    make_private(runtime_dir(cluster))
    make_private(make_private(state_dir(cluster)) / CONSOLES)
    boot = boot_of(made)
    booted = boot.nodes[0]
    node = attrs.evolve(booted.node, memory=memory or booted.node.memory)
    alone = attrs.evolve(boot, nodes=(attrs.evolve(booted, node=node),))
    backing = choose_backing(alone, Silent(), saved=made.plan.cluster.snapshot, copied=False)
    namespace = launch.networks(boot)
    running = None
    try:
        with launch.nics_of(boot, node, namespace) as nics:
            spec = launch.spec(
                boot, booted, memory=memory_of(alone, backing)[node.name], nics=nics, layers=layers
            )
            spec = attrs.evolve(spec, cmdline=" ".join([spec.cmdline, *kernel_args]))
            spec.console_log.unlink(missing_ok=True)
            since = time.monotonic()
            running = process.spawn(
                spec, runtime_dir=runtime_dir(cluster), stderr=qemu_log(spec.console_log)
            )
        yield Vm(running=running, since=since)
    finally:
        if running is not None:
            running.kill()
        namespace.stop()
