"""xk8s apply."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from xk8s.cli.session import CliSession, checks_options, complete_overlays, pass_session, set_option
from xk8s.verbs import cluster_option, echo, json_option, print_json

if TYPE_CHECKING:
    from xk8s.cluster.change.applied import Applied
    from xk8s.cluster.change.apply import Checks


@click.command()
@click.argument("overlays", nargs=-1, shell_complete=complete_overlays)
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@checks_options
@json_option
@set_option
@cluster_option
@pass_session
def command(
    session: CliSession, overlays: tuple[str, ...], checks: Checks, dry_run: bool, as_json: bool
) -> None:
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
            dry_run=dry_run,
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
        restart, stop = ("restart", "stop") if applied.dry_run else ("restarted", "stopped")
        words += [f"{restart} {short(node.restarted)}"] if node.restarted else []
        words += [f"{stop} {short(node.stopped)}"] if node.stopped else []
        told.append(f"  {node.node:<12} {'; '.join(words)}")
        told += [f"  {'':<12} {path}" for path in node.files if applied.dry_run]
    skipped = [f"  {node:<12} skipped: it does not run" for node in applied.skipped]
    if not told:
        text = "is up to date" if not skipped else "is up to date, except nodes that do not run"
        return [f"cluster {name!r} {text} ({seconds:.1f} s)", *skipped]
    changed = ", ".join(applied.overlays) or "what was left unfinished"
    if applied.dry_run:
        checks = f"checks: {', '.join(applied.checks) or 'none'}"
        return [f"cluster {name!r} would change: {changed}", *told, *skipped, f"  {checks}"]
    return [f"cluster {name!r} changed after {seconds:.1f} s: {changed}", *told, *skipped]
