"""One VM alone, without a cluster around it: from power-on to a line on its console, or its end.

QEMU, the machine and the boot protocol are those of clusters; there is just the management network.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import frozen
from xk8s.artifact_keys import artifact_key
from xk8s.build.artifacts.store import Resolved
from xk8s.build.layers.node_layer import make_node_image
from xk8s.cluster.handle import machine_error, tail
from xk8s.cluster.inputs import ClusterInputs
from xk8s.cluster.prepare import build
from xk8s.cluster.state.record import CONSOLES, qemu_log, sockets_of
from xk8s.errors import MachineError
from xk8s.machine.qemu import process
from xk8s.machine.qemu.accelerator import decide
from xk8s.machine.qemu.agent import Agent
from xk8s.machine.qemu.command import DiskImage, MachineSpec, Memory, UserNic
from xk8s.overlay import Take
from xk8s.planning.plan import NODE_LAYER, Plan, PlannedNode
from xk8s.progress import Progress
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

    spec: MachineSpec
    running: process.Spawned
    since: float
    """When it was switched on, of `time.monotonic`."""

    @property
    def agent(self) -> Agent:
        """Return the agent of its guest."""
        return Agent(self.spec.sockets.agent, self.spec.name)

    def seconds_to(self, text: str) -> float:
        """Measure from power-on until the console shows ``text``. `MachineError` with the console's
        end if the VM ends or stays silent before that.
        """
        wanted = text.encode()
        while True:
            alive = self.running.process.alive
            if wanted in self._console():
                return time.monotonic() - self.since
            if not alive:
                raise self._error(f"the VM ended before its console said {text!r}")
            if time.monotonic() - self.since > SECONDS:
                raise self._error(f"its console did not say {text!r} in {SECONDS:.0f} s")
            time.sleep(_STEP)

    def seconds_to_end(self) -> float:
        """Measure from power-on until QEMU is gone; `MachineError` if it stays."""
        while self.running.process.alive:
            if time.monotonic() - self.since > SECONDS:
                raise self._error(f"it did not power off in {SECONDS:.0f} s")
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

    def _console(self) -> bytes:
        try:
            return self.spec.console_log.read_bytes()
        except FileNotFoundError:
            return b""

    def _error(self, message: str) -> MachineError:
        console = self.spec.console_log
        error = machine_error(
            f"{self.spec.name}: {message}", console, hint="`xk8s up` of the same overlays may tell"
        )
        error.log = error.log or tail(qemu_log(console))
        return error


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
    node = made.node.node
    cluster = made.plan.name
    make_private(runtime_root())
    make_private(runtime_dir(cluster))
    consoles = make_private(state_dir(cluster)) / CONSOLES
    make_private(consoles)
    console = consoles / f"{node.name}.log"
    console.unlink(missing_ok=True)
    names = ",".join(name.replace("/", "-") for name, _ in layers)
    own = [f"xk8s.layers={names}"] if layers else []
    spec = MachineSpec(
        name=f"{cluster}/{node.name}",
        cpus=made.accel.cpus(node.cpus),
        memory=Memory(size=memory or node.memory),
        accel=made.accel,
        kernel=_member(made.plan.boot.kernel, made.resolved),
        initrd=_member(made.plan.boot.initramfs, made.resolved),
        cmdline=" ".join([*made.node.kernel_args, *own, *kernel_args]),
        images=tuple(DiskImage(path=path, size=path.stat().st_size) for _, path in layers),
        nics=tuple(
            UserNic(mac=nic.mac, guest=nic.ipv4.partition("/")[0])
            for nic in node.nics
            if nic.network == 0
        ),
        sockets=sockets_of(cluster, node.name, 0),
        console_log=console,
        pidfile=runtime_dir(cluster) / f"{node.name}.pid",
        extra=made.node.qemu_args,
    )
    since = time.monotonic()
    running = process.spawn(spec, runtime_dir=runtime_dir(cluster), stderr=qemu_log(console))
    try:
        yield Vm(spec=spec, running=running, since=since)
    finally:
        running.kill()


def _member(take: Take, resolved: Mapping[str, Resolved]) -> Path:
    path: Path = resolved[artifact_key(take.artifact)].path / take.member
    return path
