"""xk8s exec."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from xk8s.cli.session import CliSession, pass_session
from xk8s.errors import MachineError
from xk8s.verbs import cluster_option, complete_nodes

if TYPE_CHECKING:
    from xk8s.cluster.handle import Cluster

EXIT_NO_PROGRAM, EXIT_NOT_EXECUTABLE = 127, 126
"""Exit codes for a program that is missing or cannot run, as in shells."""


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--timeout",
    type=float,
    metavar="SECONDS",
    help="Kill it after so many seconds  [default: never].",
)
@click.option(
    "-n", "--no-stdin", is_flag=True, help="Do not read standard input, e.g. in a loop that does."
)
@click.option("-i", "--stdin", is_flag=True, help="Pass standard input: always so without -n.")
@click.option("-t", "--tty", is_flag=True, help="Run it on a terminal: shells, editors, top.")
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
    timeout: float | None,
    no_stdin: bool,
    stdin: bool,  # noqa: ARG001 - people type -it
    tty: bool,
) -> None:
    """Run ARGV on NODE as root, without a shell.

    Input, output and errors are streams, passed on as they come; Ctrl-C goes to the program,
    three times it ends xk8s in any case. The exit code is the program's own, or 128 and the number
    of the signal that ended it. Works even if every network of the guest is broken. Exit code
    127: the guest does not have the program; 126: it cannot run.
    """
    if argv[0] == "--":  # behind NODE click leaves it
        argv = argv[1:] or ("true",)
    ctx.exit(
        run(session, session.cluster(), node, argv, timeout=timeout, stdin=not no_stdin, tty=tty)
    )


def run(
    session: CliSession,
    cluster: Cluster,
    node: str,
    argv: tuple[str, ...],
    *,
    timeout: float | None = None,
    stdin: bool = True,
    tty: bool = False,
) -> int:
    """Run a program on a node with the streams of this process; return its exit code."""
    from attrs import evolve

    from xk8s.machine.qemu.session import NoProgramError, Request
    from xk8s.machine.qemu.streams import connect

    request = Request(argv=argv)
    if tty:
        term = f"TERM={os.environ.get('TERM', 'xterm-256color')}"
        request = evolve(request, terminal=_size(), environment=(*request.environment, term))
    sys.stdout.flush()
    try:
        with cluster.session(node, request) as running, _raw(tty and stdin):
            return connect(
                running, stdin=0 if stdin else None, stdout=1, stderr=2,
                terminal=_size if tty else None, timeout=timeout,
            )  # fmt: skip
    except NoProgramError as error:
        missing = error.number == errno.ENOENT
        why = f"has no program {argv[0]!r}" if missing else f"cannot run {argv[0]!r}: {error}"
        session.remark(f"xk8s: {node} {why}")
        return EXIT_NO_PROGRAM if missing else EXIT_NOT_EXECUTABLE
    except TimeoutError as error:
        raise MachineError(
            f"{node}: {' '.join(argv)}: {error}", hint="give it more time with --timeout"
        ) from None


def _size() -> tuple[int, int]:
    """Return rows and columns of the terminal."""
    for fd in (0, 1, 2):
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(fd)
            if size.lines and size.columns:
                return size.lines, size.columns
    return 24, 80


@contextlib.contextmanager
def _raw(wanted: bool) -> Iterator[None]:
    from xk8s.machine.qemu.console import raw

    with raw(0) if wanted and os.isatty(0) else contextlib.nullcontext():
        yield
