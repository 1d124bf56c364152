"""xk8s logs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xk8s.cli.session import Session, cluster_option, complete_nodes, pass_session
from xk8s.errors import Interrupted, MachineError, StateError, UsageError
from xk8s.suggest import nearest

if TYPE_CHECKING:
    from xk8s.cluster import Cluster

CONSOLE = "console"
_CURSOR = "-- cursor: "
_POLL_SECONDS = 1.0


@click.command()
@click.argument("node", required=False, shell_complete=complete_nodes)
@click.argument("component", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes; Ctrl-C ends.")
@click.option("-n", "--lines", default=200, show_default=True, metavar="N", help="The last N.")
@cluster_option
@pass_session
def command(
    session: Session, node: str | None, component: str | None, follow: bool, lines: int
) -> None:
    """Show the journal of NODE (the control plane by default), or of one COMPONENT in it.

    COMPONENT is a systemd unit (kubelet, etcd, …), or "console" for what the kernel and init
    printed on the serial console: that one is there even when the VM is not.
    """
    cluster = session.cluster()
    names = [one.name for one in cluster.record.nodes]
    if node is not None and node not in names and component is None:
        if node.startswith("vm-"):
            cluster.record.node(node)  # raises, and names those that are there
        node, component = None, node  # `xk8s logs kubelet`
    if node is None:
        first = [one.name for one in cluster.record.nodes if one.role == "control-plane"]
        if not (first or names):
            raise StateError(f"cluster {cluster.name!r} has no nodes yet", hint="xk8s down")
        node = (first or names)[0]
    try:
        if component == CONSOLE:
            show_console(cluster.console_log(node), lines, follow=follow)
        else:
            show_journal(cluster, node, component, lines, follow=follow)
    except KeyboardInterrupt:
        if not follow:
            raise
        raise click.exceptions.Exit(Interrupted.exit_code) from None  # the usual end: no message


def show_console(path: Path, lines: int, *, follow: bool) -> None:
    """The end of the console's log, and with ``follow`` what is added to it."""
    try:
        with path.open("rb") as file:
            text = file.read()
            last = text.decode(errors="replace").splitlines()[-lines:] if lines else []
            click.echo("\n".join(last))
            while follow:
                added = file.read()
                if added:
                    click.echo(added.decode(errors="replace"), nl=False)
                else:
                    time.sleep(_POLL_SECONDS / 4)
    except OSError as error:
        raise StateError(f"no console log: {error.strerror}", where=str(path)) from error


def show_journal(
    cluster: Cluster, node: str, unit: str | None, lines: int, *, follow: bool
) -> None:
    """The end of the journal by the guest agent; ``follow`` asks for more from the cursor on."""
    argv = ["journalctl", "--no-pager", "--output=short", "--show-cursor"]
    argv += [f"--unit={unit}"] if unit else []
    text, cursor = journal(cluster, node, [*argv, f"--lines={lines}"])
    if unit and not text.strip() and not is_unit(cluster, node, unit):
        known = units(cluster, node)
        raise UsageError(
            f"{node} has no unit {unit!r}",
            hint=f"{nearest(unit, known)}it has: {', '.join(known)}",
        )
    click.echo(text, nl=False)
    while follow:
        time.sleep(_POLL_SECONDS)
        more = [*argv, f"--after-cursor={cursor}"] if cursor else [*argv, "--lines=all"]
        text, later = journal(cluster, node, more)
        cursor = later or cursor
        click.echo(text, nl=False)


def journal(cluster: Cluster, node: str, argv: list[str]) -> tuple[str, str]:
    """What journalctl printed, and its cursor ("" when there were no entries)."""
    result = cluster.run(node, argv)
    text = result.stdout.decode(errors="replace")
    if result.exit_code != 0 and not text:
        raise MachineError(f"{node}: journalctl failed", log=result.stderr.decode(errors="replace"))
    body, _, cursor = text.rpartition(_CURSOR)
    if not cursor:
        body = text
    return body.replace("-- No entries --\n", ""), cursor.strip()


def is_unit(cluster: Cluster, node: str, unit: str) -> bool:
    """Whether systemd knows the unit."""
    return cluster.run(node, ["systemctl", "cat", unit]).exit_code == 0


def units(cluster: Cluster, node: str) -> list[str]:
    """Names of the services that are loaded, without ".service"."""
    argv = ["systemctl", "list-units", "--type=service", "--plain", "--no-legend", "--no-pager"]
    text = cluster.run(node, argv).stdout.decode(errors="replace")
    names = [line.split()[0].removesuffix(".service") for line in text.splitlines() if line.strip()]
    return [name for name in names if not name.startswith(("systemd-", "getty", "serial-getty"))]
