"""xk8s up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from xk8s.cli.session import CliSession, complete_overlays, pass_session, plan_options
from xk8s.verbs import cluster_option, echo, json_option, print_json

if TYPE_CHECKING:
    from xk8s.cluster.handle import Cluster


@click.command()
@click.argument("overlays", nargs=-1, required=True, shell_complete=complete_overlays)
@click.option("--check/--no-check", default=True, help="Wait until the overlays' checks pass.")
@click.option("--cold", is_flag=True, help="Boot, even if a snapshot could be restored.")
@json_option
@plan_options
@cluster_option
@pass_session
def command(
    session: CliSession, overlays: tuple[str, ...], check: bool, cold: bool, as_json: bool
) -> None:
    """Start a cluster from OVERLAYS and check it.

    The overlays that they require are added. What is missing is fetched or built first and kept in
    the cache. ./DIR (a name with a / or a dot) is a local directory: its files override all others.
    A cluster that passed its checks is saved, and restored by the next `up` of the same plan; for
    another plan, the nearest saved cluster is restored and changed, if that takes no reboot.
    """
    from xk8s.cluster.up import up
    from xk8s.planning.make_plan import make_plan

    plan = make_plan(session.request(overlays), online=True)
    with session.progress() as progress:
        for choice in plan.choices:
            progress.note(f"{choice.capability}: {choice.chosen} ({choice.reason})")
        cluster = up(plan, progress, checks=check, cold=cold)
    if as_json:
        print_json(cluster.status())
    else:
        summarize(cluster, session)


def summarize(cluster: Cluster, session: CliSession) -> None:
    """Print what is running now, and the next commands."""
    option = "" if cluster.name == "xk8s" else f" --name {cluster.name}"
    nodes = [node.name for node in cluster.record.nodes]
    seconds = sum(cluster.record.seconds.values())
    echo(f"cluster {cluster.name!r} is up after {seconds:.0f} s: {', '.join(nodes)}")
    for node in cluster.record.nodes:
        for name, port in node.forwards.items():
            echo(f"  {name:<12} 127.0.0.1:{port} ({node.name})")
    for path in host_files(cluster):
        echo(f"  {path.rpartition('/')[2]:<12} {path}")
    if not session.quiet:
        verbs = ("status", f"shell {nodes[0]}", "down")
        echo(f"  {'next':<12} {' · '.join(f'xk8s {verb}{option}' for verb in verbs)}")


def host_files(cluster: Cluster) -> list[str]:
    """Return files that overlays made for the host (a kubeconfig, for example), as paths."""
    from xk8s.cluster.state.booted import BOOT
    from xk8s.cluster.state.guest_files import GUEST_FILES
    from xk8s.cluster.state.passed_checks import CHECKED
    from xk8s.cluster.state.record import RECORD
    from xk8s.cluster.state.request_file import PLAN, REQUEST

    own = {RECORD, REQUEST, PLAN, BOOT, GUEST_FILES, CHECKED}
    files = (path for path in sorted(cluster.state_dir.iterdir()) if path.is_file())
    return [str(path) for path in files if path.name not in own]
