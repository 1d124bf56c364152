"""xk8s ssh-config."""

from __future__ import annotations

from pathlib import Path

import click

from xk8s.cli.session import CliSession, pass_session
from xk8s.verbs import cluster_option, echo


@click.command()
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Write it to FILE, mode 0600.",
)  # fmt: skip
@cluster_option
@pass_session
def command(session: CliSession, output: Path | None) -> None:
    """Print a block for ssh_config(5) with which SSH clients reach the nodes.

    The hosts are called CLUSTER-NODE, such as xk8s-vm-001. Keys stay in the cluster's state
    directory, and are gone when the cluster is down.
    """
    from xk8s.cluster.access import ssh

    cluster = session.cluster()
    ssh.write_config(cluster)
    text = ssh.config(cluster)
    if output is None:
        echo(text.removesuffix("\n"))
        return
    from xk8s.errors import HostError
    from xk8s.util.files import write_atomic

    try:
        write_atomic(output, text.encode(), mode=0o600)
    except OSError as error:
        raise HostError(f"{output}: {error.strerror}") from error
