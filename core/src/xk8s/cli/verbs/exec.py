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
"""Exit code for a missing program, as in shells."""


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--timeout",
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Seconds until it is killed.",
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
    """Run ARGV on NODE through its guest agent, as root, without a shell.

    Output and exit code are the command's own. Piped or redirected input is passed to it. Works
    even if every network of the guest is broken. Exit code 127: the guest does not have the
    program.
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
        session.remark(f"xk8s: {node} has no program {argv[0]!r}, or it cannot run")
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
    """Return all of stdin if it is a pipe, file or socket; nothing if it is a terminal, closed, or
    a device: nobody can type for a command that runs to its end.
    """
    try:
        mode = os.fstat(0).st_mode
    except OSError:
        return b""
    if stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode):
        with os.fdopen(0, "rb", closefd=False) as file:
            return file.read()
    return b""
