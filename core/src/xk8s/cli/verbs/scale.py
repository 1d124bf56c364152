"""xk8s scale."""

from __future__ import annotations

import click

from xk8s.cli.session import CliSession, pass_session
from xk8s.verbs import cluster_option, json_option, print_json


@click.command()
@click.option("--nodes", type=int, help="Nodes of Kubernetes, the control plane among them.")
@click.option("--routers", type=int, help="Routers between the nodes and the outside.")
@click.option("--testers", type=int, help="VMs on the outside.")
@click.option("--no-check", is_flag=True, help="Run no checks.")
@json_option
@cluster_option
@pass_session
def command(
    session: CliSession,
    nodes: int | None,
    routers: int | None,
    testers: int | None,
    no_check: bool,
    as_json: bool,
) -> None:
    """Give the running cluster more or fewer VMs.

    New ones are booted beside those that run, and join; the ones with the highest numbers go first,
    after what runs on them was moved (of a Kubernetes node: it is drained). All others go on.
    """
    from xk8s.cluster.change.scale import scale
    from xk8s.errors import UsageError

    given = {"nodes": nodes, "routers": routers, "testers": testers}
    counts = {name: count for name, count in given.items() if count is not None}
    if not counts:
        raise UsageError("how many of what?", hint="for example: xk8s scale --nodes 4")
    with session.progress() as progress:
        scaled = scale(session.name, counts, progress, checks="none" if no_check else "changed")
    if as_json:
        print_json(scaled.to_json())
        return
    seconds = sum(scaled.applied.seconds.values())
    name = scaled.applied.cluster.name
    words = [f"+{one}" for one in scaled.added] + [f"-{one}" for one in scaled.removed]
    if not words:
        click.echo(f"cluster {name!r} has that many already ({seconds:.1f} s)")
        return
    click.echo(f"cluster {name!r} is scaled after {seconds:.1f} s: {' '.join(words)}")
