"""Comparison ``start``: what a user waits for, from the start of `xk8s up` on.

The command runs as a user's does, as a process of its own. What happens is seen from outside: a VM
runs when its virtual CPUs take time; checks have passed when the command says so; an API server is
there when it answers the host.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from attrs import define, field
from xk8s.cluster.handle import tail
from xk8s.cluster.state.record import read_record
from xk8s.errors import MachineError
from xk8s.overlay import NODE_ROLES
from xk8s.planning.plan import Plan
from xk8s.util.paths import state_dir

from xk8s_bench.answer import FILE, Asker
from xk8s_bench.comparison import Comparison, Prepared, Quantity, Way
from xk8s_bench.lab import NAME, Lab
from xk8s_bench.result import About
from xk8s_bench.vm import parts

COLD = About(
    name="cold",
    title="cold (up --cold)",
    how="`xk8s up --cold`: artifacts and layers are in the cache, the VMs boot, all checks run.",
)
RESTORED = About(
    name="restored",
    title="restored (up)",
    how="`xk8s up` of the same plan when its snapshot exists: the saved VMs resume, and the "
    "checks that matter then run.",
)

APPLIED = About(
    name="applied",
    title="one line of the CNI changed (apply)",
    how="`xk8s apply -s kubernetes.pod_mtu=1400` in the restored cluster, which changes a line of "
    "the CNI's configuration on each node: from the command on, until the checks of what changed "
    "have passed.",
)
APPLIED_LATER = About(
    name="applied-later",
    title="the same, half a minute later",
    how="The same half a minute after `xk8s up` has restored the cluster: what is used of it for "
    "the first time is slower.",
)

RUNNING = Quantity(name="running", title="command to all VMs running", unit="s")
CHECKED = Quantity(name="checked", title="command to checks passed", unit="s")
ANSWERED = Quantity(name="answered", title="command to GET of nodes answered on the host", unit="s")
USABLE = Quantity(
    name="usable",
    title="cold, applied: to checks passed; restored: to GET of nodes answered",
    unit="s",
)

QUANTITIES = (RUNNING, CHECKED, ANSWERED, USABLE)

RESTORE_GOAL = 1 / 50
"""Issue 5: a restored cluster answers after at most that part of a whole cold `up`."""

APPLY_GOAL = 1 / 10
"""And that change is there after at most that part."""

_CHANGE = ("-s", "kubernetes.pod_mtu=1400")

RUNS_AFTER = 0.005
"""Seconds of CPU that a virtual CPU has taken when its VM runs: to be made, and to wait for a
saved state, takes less."""

SETTLED = 30.0
"""Seconds after which a restored cluster is no longer busy with being restored."""

_API = "api"
"""Name of the forward that leads to an API server."""

SECONDS = 600.0
"""For an API server to answer once the command has ended: its checks have passed by then."""

_DONE = ": done in"
_STEP = 0.01


def prepare(lab: Lab) -> Prepared:
    """Return the plan, with everything it needs in the cache."""
    plan = lab.plan()
    parts(plan, lab.progress, lab.scratch, lab.held)
    answers = has_api(plan)

    def run(*options: str, usable: Quantity, stage: str = "") -> Mapping[str, float]:
        try:
            found = timed(lab, plan, ("up", *options, *lab.words()), stage=stage)
        finally:
            lab.down()
        return {**found, USABLE.name: found[usable.name]} if answers else found

    def applied(after: float) -> Mapping[str, float]:
        try:
            timed(lab, plan, ("up", *lab.words()), stage="restore")
            time.sleep(after)
            found = timed(lab, plan, ("apply", *_CHANGE))
        finally:
            lab.down()
        return {**found, USABLE.name: found[CHECKED.name]}

    ways = [
        Way(about=COLD, run=lambda: run("--cold", usable=CHECKED)),
        # It was saved by the cold start before it: that is what `up` does.
        Way(
            about=RESTORED,
            run=lambda: run(stage="restore", usable=ANSWERED),
            goals={USABLE.name: RESTORE_GOAL} if answers else {},
        ),
    ]
    if answers and "kubernetes" in plan.ctx.overlays:
        goals = {USABLE.name: APPLY_GOAL}
        ways += [
            Way(about=APPLIED, run=lambda: applied(0.0), goals=goals),
            Way(about=APPLIED_LATER, run=lambda: applied(SETTLED), goals=goals),
        ]
    return Prepared(
        quantities=QUANTITIES if answers else (RUNNING, CHECKED),
        ways=tuple(ways),
        plans=(plan,),
    )


def has_api(plan: Plan) -> bool:
    """Return whether there is an API server to be asked."""
    return any(forward.name == _API for node in plan.nodes for forward in node.forwards)


def timed(lab: Lab, plan: Plan, words: Sequence[str], *, stage: str = "") -> Mapping[str, float]:
    """Run an `xk8s` that leaves the cluster of a plan running, and time what the quantities say.
    ``stage``: it must have been there, or `MachineError` says that something else was done.
    """
    names = frozenset(
        planned.node.name for planned in plan.nodes if planned.node.role in NODE_ROLES
    )
    asker = Asker(state_dir(NAME) / FILE, names) if has_api(plan) else None
    command = Command.start(("--name", NAME, *words), lab.scratch / "command.log")
    try:
        if asker is not None:
            asker.start()
        command.watch(lambda line: lab.progress.item("xk8s", line))
        if stage and f"{stage}{_DONE}" not in command.said():
            raise MachineError(
                f"`xk8s {' '.join(words)}` had no stage {stage!r}",
                hint="its own words say why",
                log=command.said(),
            )
        times = {RUNNING.name: command.running, CHECKED.name: command.checked}
        if asker is not None:
            times[ANSWERED.name] = asker.wait(SECONDS) - command.since
        return times
    finally:
        lab.progress.finish("xk8s")
        command.end()
        if asker is not None:
            asker.stop()


@define(eq=False, kw_only=True)
class Command:
    """An `xk8s` that runs, and what was seen of it: seconds since its start."""

    since: float
    log: Path
    words: Sequence[str]
    _process: subprocess.Popen[bytes]
    running: float = field(default=0.0, init=False)
    checked: float = field(default=0.0, init=False)

    @classmethod
    def start(cls, words: Sequence[str], log: Path) -> Command:
        """Start it, with what it says in the file ``log``. In a session of its own: Ctrl-C at
        this terminal reaches it by `end`.
        """
        argv = [sys.executable, "-m", "xk8s.cli", *words]
        with log.open("wb") as said:
            since = time.monotonic()
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
            )
        return cls(since=since, log=log, words=words, process=process)

    def said(self) -> str:
        """Return all of its output until now."""
        return self.log.read_text(errors="replace")

    def watch(self, tell: Callable[[str], None]) -> None:
        """Until it ends; `MachineError` with its last words when it failed, or was not seen to
        do what it must.
        """
        while True:
            ended = self._process.poll() is not None
            now = time.monotonic() - self.since
            if not self.running and all_run():
                self.running = now
            text = self.said()
            if not self.checked and f"checks{_DONE}" in text:
                self.checked = now
            if ended:
                break
            tell(text.rstrip().rpartition("\n")[2].strip())
            time.sleep(_STEP)
        if self._process.returncode != 0:
            raise self._failed(f"failed with exit code {self._process.returncode}")
        if not self.running:
            raise self._failed("ended, but not all of its VMs run")
        if not self.checked:
            raise self._failed("did not say that its checks were done")

    def end(self) -> None:
        """SIGTERM, upon which it cleans up, if it still runs; then wait."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait()

    def _failed(self, how: str) -> MachineError:
        return MachineError(
            f"`xk8s {' '.join(self.words)}` {how}",
            hint="run it by itself",
            log=tail(self.log),
        )


def all_run() -> bool:
    """Return whether every VM of the cluster has a virtual CPU that has worked."""
    record = read_record(NAME)
    if record is None or not record.nodes:
        return False
    return all(cpu_seconds(node.pid) > RUNS_AFTER for node in record.nodes)


def cpu_seconds(pid: int) -> float:
    """CPU time of a QEMU's virtual CPUs (threads "CPU 0/TCG", "CPU 1/KVM"…); 0 when it is gone."""
    total = 0
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            if (task / "comm").read_text().startswith("CPU "):
                total += int((task / "schedstat").read_text().split()[0])
        except OSError:  # the thread ended
            continue
    return total / 1e9


COMPARISON = Comparison(
    name="start",
    summary="What a user waits for: a cold start, a restored one, a change that is applied",
    series=(COLD, RESTORED, APPLIED, APPLIED_LATER),
    quantities=QUANTITIES,
    prepare=prepare,
)
