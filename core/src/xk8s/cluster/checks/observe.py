"""What the overlays' observations print in a running cluster.

All of it goes through the guest agents: it works with every network broken, and a node that does
not answer costs its own part only.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from attrs import frozen

from xk8s.cluster.absent import absence_text
from xk8s.cluster.handle import Cluster
from xk8s.context import ExecResult
from xk8s.errors import Xk8sError
from xk8s.machine.qemu.agent import AgentError
from xk8s.overlay import Observation
from xk8s.planning.plan import Plan
from xk8s.progress import Progress, Silent

_SILENT = 2
"""After so many calls in a row that a guest agent did not answer, the node is left alone."""
_SLOW = 3
"""And after so many commands in a row that did not end in their time."""


@frozen(kw_only=True)
class Observed:
    """The outcome of one observation: what was printed, or why there is nothing. A command that
    failed has both.
    """

    node: str
    name: str
    text: str = ""
    problem: str = ""
    searched: bool = False


def observations(plan: Plan) -> tuple[Observation, ...]:
    """Return everything that the plan's overlays want to see, in their order."""
    return tuple(
        observation
        for name in plan.ctx.overlays
        for observation in plan.registry.hooks.observe(name, plan.ctx)
    )


def observe(
    cluster: Cluster, wanted: Sequence[Observation], progress: Progress | None = None
) -> tuple[Observed, ...]:
    """Run them on all nodes at once, on each node one after the other. Never raises for what a
    node does or does not do.
    """
    progress = progress or Silent()
    nodes = cluster.record.nodes
    if not nodes:
        return ()
    stop = threading.Event()

    def of(name: str, role: str) -> list[Observed]:
        own = [observation for observation in wanted if role in observation.roles]
        try:
            return list(_observe_node(cluster, name, own, progress, stop))
        finally:
            progress.finish(name)

    with ThreadPoolExecutor(max_workers=min(8, len(nodes))) as pool:
        try:
            parts = list(pool.map(lambda node: of(node.name, node.role), nodes))
        except BaseException:
            stop.set()  # Ctrl-C waits for the commands that run, not for all
            raise
    return tuple(observed for part in parts for observed in part)


def _observe_node(
    cluster: Cluster,
    node: str,
    wanted: Sequence[Observation],
    progress: Progress,
    stop: threading.Event,
) -> Iterator[Observed]:
    silent = slow = 0
    why = ""
    for index, observation in enumerate(wanted):
        if stop.is_set():
            return
        if absence := cluster.absence(node):
            silent, why = _SILENT, absence_text(cluster.name, node, absence)
        if silent >= _SILENT or slow >= _SLOW:
            yield Observed(
                node=node, name=observation.name, problem=why, searched=observation.searched
            )
            continue
        progress.item(node, observation.name, done=index, total=len(wanted))
        text = problem = ""
        try:
            result = cluster.run(node, observation.argv, timeout=observation.timeout)
        except AgentError as error:
            silent, slow, problem = 0, 0, _no_program(observation.argv[0], error)
        except TimeoutError as error:
            silent, slow, problem = 0, slow + 1, str(error)
        except Xk8sError as error:
            silent, problem = silent + 1, str(error)
        else:
            silent = slow = 0
            text, problem = _outcome(result)
        why = problem
        yield Observed(
            node=node,
            name=observation.name,
            text=text,
            problem=problem,
            searched=observation.searched,
        )


def _outcome(result: ExecResult) -> tuple[str, str]:
    """Text and problem of a command that ended."""
    text = result.stdout.decode(errors="replace")
    said = result.stderr.decode(errors="replace").strip()
    if result.exit_code != 0:
        return text, f"exit code {result.exit_code}: {said[-500:]}".rstrip(": ")
    return (f"{text}\n--- stderr\n{said}\n" if said else text), ""


def _no_program(program: str, error: AgentError) -> str:
    if "Failed to execute child process" in str(error):
        return f"no program {program} in the guest"
    return str(error)
