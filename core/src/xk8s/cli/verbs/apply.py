"""xk8s apply."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from xk8s.cli.session import CliSession, checks_options, complete_overlays, pass_session, set_option
from xk8s.verbs import cluster_option, echo, json_option, print_json

if TYPE_CHECKING:
    from xk8s.cluster.change.apply import Applied, Checks


@click.command()
@click.argument("overlays", nargs=-1, shell_complete=complete_overlays)
@checks_options
@json_option
@set_option
@cluster_option
@pass_session
def command(session: CliSession, overlays: tuple[str, ...], checks: Checks, as_json: bool) -> None:
    """Apply changes to the running cluster, and add OVERLAYS that it does not have yet.

    Overlays, settings given with -s, your own builds and local directories are read again. Only
    files that differ are copied to the nodes, whatever uses them is restarted, and the checks of
    overlays that changed, or are named, run. A change that takes a reboot (the kernel, the base
    system, the size of the VMs) is an error, and then nothing is changed.
    """
    from xk8s.cluster.change.apply import apply

    with session.progress() as progress:
        applied = apply(
            session.name,
            progress,
            overlays=overlays,
            sets=session.sets,
            checks=checks,
        )
    if as_json:
        print_json(applied.to_json())
        return
    for line in lines(applied):
        echo(line)


def lines(applied: Applied) -> list[str]:
    """Return lines that say what was done, for people."""
    from xk8s.cluster.change.units import short

    seconds = sum(applied.seconds.values())
    name = applied.cluster.name
    told = []
    for node in applied.nodes:
        if not (node.files or node.restarted or node.layers):
            continue
        words = [f"{len(node.files)} files"]
        words += [f"layers {', '.join(node.layers)}"] if node.layers else []
        words += [f"restarted {short(node.restarted)}"] if node.restarted else []
        words += [f"stopped {short(node.stopped)}"] if node.stopped else []
        told.append(f"  {node.node:<12} {'; '.join(words)}")
    skipped = [f"  {node:<12} skipped: it does not run" for node in applied.skipped]
    if not told:
        text = "is up to date" if not skipped else "is up to date, except nodes that do not run"
        return [f"cluster {name!r} {text} ({seconds:.1f} s)", *skipped]
    changed = ", ".join(applied.overlays) or "what was left unfinished"
    return [f"cluster {name!r} changed after {seconds:.1f} s: {changed}", *told, *skipped]
