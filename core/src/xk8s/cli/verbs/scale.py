"""xk8s scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from xk8s.cli.session import CliSession, checks_options, pass_session
from xk8s.verbs import cluster_option, echo, json_option, print_json

if TYPE_CHECKING:
    from xk8s.cluster.change.apply import Checks


@click.command()
@click.option("--nodes", type=int, help="Number of Kubernetes nodes, including the control plane.")
@click.option("--routers", type=int, help="Number of routers between the nodes and the outside.")
@click.option("--testers", type=int, help="Number of VMs on the outside.")
@checks_options
@json_option
@cluster_option
@pass_session
def command(
    session: CliSession,
    nodes: int | None,
    routers: int | None,
    testers: int | None,
    checks: Checks,
    as_json: bool,
) -> None:
    """Add VMs to or remove them from the running cluster.

    New ones boot beside the running ones, and join; those with the highest numbers are removed
    first, after what runs on them was moved (a Kubernetes node is drained). All others keep
    running.
    """
    from xk8s.cluster.change.scale import scale
    from xk8s.errors import UsageError

    given = {"nodes": nodes, "routers": routers, "testers": testers}
    counts = {name: count for name, count in given.items() if count is not None}
    if not counts:
        raise UsageError("how many of what?", hint="for example: xk8s scale --nodes 4")
    with session.progress() as progress:
        scaled = scale(session.name, counts, progress, checks=checks)
    if as_json:
        print_json(scaled.to_json())
        return
    seconds = sum(scaled.applied.seconds.values())
    name = scaled.applied.cluster.name
    words = [f"+{node}" for node in scaled.added] + [f"-{node}" for node in scaled.removed]
    if not words:
        echo(f"cluster {name!r} already has that many ({seconds:.1f} s)")
        return
    echo(f"cluster {name!r} scaled after {seconds:.1f} s: {' '.join(words)}")
