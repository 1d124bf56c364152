"""xk8s ssh."""

from __future__ import annotations

import os

import click

from xk8s.cli.session import CliSession, pass_session
from xk8s.errors import HostError
from xk8s.verbs import cluster_option, complete_nodes


@click.command(context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True})
@click.option(
    "--proxy", is_flag=True,
    help="Connect standard input and output to the SSH server of NODE, for a ProxyCommand.",
)  # fmt: skip
@click.argument("node", shell_complete=complete_nodes)
@click.argument("argv", nargs=-1, type=click.UNPROCESSED)
@cluster_option
@pass_session
@click.pass_context
def command(
    ctx: click.Context, session: CliSession, node: str, argv: tuple[str, ...], proxy: bool
) -> None:
    """Log in to NODE as root by SSH, or run a command there.

    ARGV are options and the command of ssh itself: `xk8s ssh vm-001 -L 8080:localhost:80`. No
    network of the guest is needed. For scp, rsync and others see `xk8s ssh-config`.
    """
    from xk8s.cluster.access import ssh
    from xk8s.util import host_programs

    cluster = session.cluster()
    cluster.check_alive(cluster.record.node(node).name)
    if proxy:
        from xk8s.cli.verbs.exec import run

        ssh.write_known_hosts(cluster)  # keys are rotated; ssh reads it behind this
        ctx.exit(run(session, cluster, node, (ssh.SERVER,)))
    program = host_programs.find("ssh")
    if program is None:
        raise HostError("ssh is not installed", hint=host_programs.hint("ssh"))
    config = ssh.write_config(cluster)
    words = argv[1:] if argv[:1] == ("--",) else argv
    os.execv(program, ["ssh", "-F", str(config), ssh.host_name(cluster.name, node), *words])  # noqa: S606
