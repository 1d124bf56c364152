"""xk8s node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from xk8s.cli.session import CliSession, checks_options, pass_session
from xk8s.verbs import Decorated, cluster_option, complete_nodes, echo, json_option, print_json

if TYPE_CHECKING:
    from xk8s.cluster.change.apply import Checks
    from xk8s.cluster.change.lifecycle import Started
    from xk8s.progress import Progress


@click.group("node")
def command() -> None:
    """Break and repair single nodes of the running cluster."""


def nodes_argument(function: Decorated) -> Decorated:
    """Add the NODES that a verb works on."""
    return click.argument(
        "nodes", nargs=-1, required=True, metavar="NODE...", shell_complete=complete_nodes
    )(function)


def change(
    session: CliSession,
    work: Callable[[str, Sequence[str], Progress], None],
    nodes: tuple[str, ...],
    became: str,
) -> None:
    """Do that to the nodes, and say what they are now."""
    with session.progress() as progress:
        work(session.name, nodes, progress)
    session.remark(f"{became}: {', '.join(nodes)}")


@command.command("pause")
@nodes_argument
@cluster_option
@pass_session
def pause(session: CliSession, nodes: tuple[str, ...]) -> None:
    """Pause NODE, as if its machine hung: it keeps its memory and its connections."""
    from xk8s.cluster.change import lifecycle

    change(session, lifecycle.pause, nodes, "paused")


@command.command("resume")
@nodes_argument
@cluster_option
@pass_session
def resume(session: CliSession, nodes: tuple[str, ...]) -> None:
    """Let a paused NODE run on, and set its clock."""
    from xk8s.cluster.change import lifecycle

    change(session, lifecycle.resume, nodes, "running")


@command.command("kill")
@nodes_argument
@cluster_option
@pass_session
def kill(session: CliSession, nodes: tuple[str, ...]) -> None:
    """Switch NODE off at once, like a loss of power. Its memory is lost; see `node start`."""
    from xk8s.cluster.change import lifecycle

    change(session, lifecycle.kill, nodes, "killed")


@command.command("start")
@nodes_argument
@checks_options
@json_option
@cluster_option
@pass_session
def start(session: CliSession, nodes: tuple[str, ...], checks: Checks, as_json: bool) -> None:
    """Boot a dead NODE again, with its number, addresses and role, and run the checks.

    It boots from what `xk8s apply` would bring to a running node now, and all others get the same.
    """
    from xk8s.cluster.change import lifecycle

    with session.progress() as progress:
        started = lifecycle.start(session.name, nodes, progress, checks=checks)
    show(started, as_json=as_json)


@command.command("reboot")
@click.option("--force", is_flag=True, help="Do not shut it down first: like kill, then start.")
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=120.0, show_default=True, metavar="SECONDS",
    help="Kill it if it has not shut down by then.",
)  # fmt: skip
@nodes_argument
@checks_options
@json_option
@cluster_option
@pass_session
def reboot(
    session: CliSession,
    nodes: tuple[str, ...],
    force: bool,
    timeout: float,
    checks: Checks,
    as_json: bool,
) -> None:
    """Shut NODE down, then start it as `node start` does."""
    from xk8s.cluster.change import lifecycle

    with session.progress() as progress:
        started = lifecycle.reboot(
            session.name, nodes, progress, force=force, timeout=timeout, checks=checks
        )
    show(started, as_json=as_json)


def show(started: Started, *, as_json: bool) -> None:
    """Print which nodes were started."""
    if as_json:
        print_json(started.to_json())
        return
    if started.applied is None:
        echo("nothing to start: no node of these is dead")
        return
    seconds = sum(started.applied.seconds.values())
    name = started.applied.cluster.name
    echo(f"cluster {name!r}: {', '.join(started.nodes)} started after {seconds:.1f} s")
