"""xk8s shell."""

from __future__ import annotations

import click

from xk8s.cli.session import CliSession, pass_session
from xk8s.verbs import cluster_option, complete_nodes


@click.command()
@click.argument("node", shell_complete=complete_nodes)
@cluster_option
@pass_session
def command(session: CliSession, node: str) -> None:
    """Open a root shell on NODE. Ctrl-] leaves; no network is needed."""
    from xk8s.machine.qemu.console import attach

    cluster = session.cluster()
    cluster.check_present(cluster.record.node(node).name)
    attach(cluster.sockets(node).shell, node, shell=True)  # noqa: S604 - no subprocess: a guest's shell
