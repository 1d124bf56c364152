"""xk8s net."""

from __future__ import annotations

import re

import click

from xk8s.cli.session import CliSession, pass_session
from xk8s.errors import UsageError
from xk8s.verbs import cluster_option, complete_nodes


@click.group("net")
def command() -> None:
    """Break and watch the cluster's networks from outside of its guests."""


@command.command("link")
@click.argument("node", shell_complete=complete_nodes)
@click.argument("interface")
@click.argument("state", type=click.Choice(["up", "down"]))
@cluster_option
@pass_session
def link(session: CliSession, node: str, interface: str, state: str) -> None:
    """Plug or unplug the cable of INTERFACE (eth0, eth1 …) on NODE."""
    from xk8s.machine.qemu.qmp import Qmp

    cluster = session.cluster()
    nics = {node.name: node.nics for node in cluster.ctx.nodes}[cluster.record.node(node).name]
    # QEMU's device nicK is the K-th interface; the guest's ethN is that on network N.
    devices = {f"eth{nic.network}": f"nic{index}" for index, nic in enumerate(nics)}
    if interface not in devices:
        raise UsageError(
            f"{node} has no interface {interface!r}", hint=f"it has {', '.join(devices)}"
        )
    cluster.check_alive(node)
    with Qmp(cluster.sockets(node).qmp, node) as qmp:
        qmp.set_link(devices[interface], up=state == "up")


@command.command("exec", context_settings={"allow_interspersed_args": False})
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED)
@cluster_option
@pass_session
@click.pass_context
def execute(ctx: click.Context, session: CliSession, argv: tuple[str, ...]) -> None:
    """Run a program of this machine in the cluster's network namespace.

    The namespace is outside of the cluster: traffic to a virtual address passes through the router.
    """
    ctx.exit(in_namespace(session, list(argv)))


@command.command("tcpdump", context_settings={"allow_interspersed_args": False})
@click.argument("network")
@click.argument("argv", nargs=-1, type=click.UNPROCESSED)
@cluster_option
@pass_session
@click.pass_context
def tcpdump(ctx: click.Context, session: CliSession, network: str, argv: tuple[str, ...]) -> None:
    """Run this machine's tcpdump on NETWORK (1 or 2); ARGV are its own arguments."""
    if not re.fullmatch(r"[0-9]+", network):
        raise UsageError(f"{network!r} is not a network", hint="use its number, 1 or 2")
    words = list(argv[1:] if argv[:1] == ("--",) else argv)
    ctx.exit(in_namespace(session, ["tcpdump", "-i", f"net{network}", "-l", *words]))


def in_namespace(session: CliSession, argv: list[str]) -> int:
    """Run it with our own streams; Ctrl-C is passed on. Return its exit code."""
    import signal

    from xk8s.errors import HostError
    from xk8s.util import host_programs

    cluster = session.cluster()
    if host_programs.find(argv[0]) is None:
        raise HostError(f"the program {argv[0]} is missing", hint=host_programs.hint(argv[0]))
    with cluster.namespace.exec(argv) as process:
        while True:
            try:
                code = process.wait()
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)
            else:
                return code if code >= 0 else 128 - code
