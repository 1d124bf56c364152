"""xk8s ssh-config."""

from __future__ import annotations

import click

from xk8s.cli.session import CliSession, pass_session
from xk8s.verbs import cluster_option


@click.command()
@cluster_option
@pass_session
def command(session: CliSession) -> None:
    """Print a block for ssh_config(5) with which SSH clients reach the nodes.

    The hosts are called CLUSTER-NODE, such as xk8s-vm-001. Keys stay in the cluster's state
    directory, and are gone when the cluster is down.
    """
    from xk8s.cluster import ssh

    cluster = session.cluster()
    ssh.write_config(cluster)
    click.echo(ssh.config(cluster), nl=False)
