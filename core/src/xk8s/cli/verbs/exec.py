"""xk8s exec."""

from __future__ import annotations

import os
import stat
import sys

import click

from xk8s.cli.session import CliSession, pass_session
from xk8s.errors import MachineError
from xk8s.verbs import cluster_option, complete_nodes

EXIT_NO_PROGRAM = 127
"""As shells have it."""


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--timeout", default=600.0, show_default=True, metavar="SECONDS", help="Then kill it."
)
@click.option("-n", "--no-stdin", is_flag=True, help="Do not read standard input.")
@click.argument("node", shell_complete=complete_nodes)
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED)
@cluster_option
@pass_session
@click.pass_context
def command(
    ctx: click.Context,
    session: CliSession,
    node: str,
    argv: tuple[str, ...],
    timeout: float,
    no_stdin: bool,
) -> None:
    """Run ARGV in NODE through its guest agent, as root, without a shell.

    Output and exit code are the command's own. What is piped or redirected in is given to it.
    Works when every network of the guest is broken. Exit code 127: no such program in the guest.
    """
    from xk8s.machine.qemu.agent import AgentError

    if argv[0] == "--":  # behind NODE click leaves it
        argv = argv[1:] or ("true",)
    try:
        result = session.cluster().run(
            node, argv, stdin=b"" if no_stdin else piped(), timeout=timeout
        )
    except AgentError as error:
        if "Failed to execute child process" not in str(error):
            raise
        click.echo(f"xk8s: {node} has no program {argv[0]!r}, or it cannot be run", err=True)
        ctx.exit(EXIT_NO_PROGRAM)
    except TimeoutError as error:
        raise MachineError(
            str(error), where=node, hint="give it more time with --timeout"
        ) from None
    sys.stdout.buffer.write(result.stdout)
    sys.stdout.buffer.flush()
    sys.stderr.buffer.write(result.stderr)
    sys.stderr.buffer.flush()
    ctx.exit(result.exit_code)


def piped() -> bytes:
    """All of stdin when it is a pipe, file or socket; nothing when it is a terminal, closed, or
    a device: there is nobody to type for a command that runs to its end.
    """
    try:
        mode = os.fstat(0).st_mode
    except OSError:
        return b""
    if stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode):
        with os.fdopen(0, "rb", closefd=False) as file:
            return file.read()
    return b""
