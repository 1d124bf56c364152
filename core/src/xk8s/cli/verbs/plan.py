"""xk8s plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from xk8s.cli.session import CliSession, complete_overlays, pass_session, plan_options
from xk8s.verbs import cluster_option, echo, json_option, print_json, table

if TYPE_CHECKING:
    from xk8s.planning.diagram import Part
    from xk8s.planning.plan import Plan


@click.command()
@click.argument("overlays", nargs=-1, required=True, shell_complete=complete_overlays)
@json_option
@click.option(
    "--graph",
    "graph_format",
    type=click.Choice(["svg", "mermaid"]),
    help="Print a picture: nodes on networks, and which VM has which layers.",
)
@click.option(
    "--graph-of",
    type=click.Choice(["networks", "layers"]),
    help="Only this part of the picture.",
)
@plan_options
@cluster_option
@pass_session
def command(
    session: CliSession,
    overlays: tuple[str, ...],
    as_json: bool,
    graph_format: str | None,
    graph_of: Part | None,
) -> None:
    """Show what `up` would do with OVERLAYS. Needs no root, QEMU or network, and changes
    nothing.
    """
    if (as_json and graph_format) or (graph_of and not graph_format):
        raise click.UsageError(
            "--json and --graph exclude each other" if as_json else "--graph-of needs --graph"
        )
    from xk8s.planning.make_plan import make_plan

    plan = make_plan(session.request(overlays))
    if graph_format:
        echo(picture(plan, graph_format, graph_of), nl=False)
    elif as_json:
        print_json(plan.to_json())
    else:
        show(plan)


def picture(plan: Plan, kind: str, part: Part | None) -> str:
    """Draw the plan."""
    from xk8s.planning.diagram import PARTS, graph, mermaid
    from xk8s.planning.diagram_svg import draw

    parts = (part,) if part else PARTS
    return (draw if kind == "svg" else mermaid)(graph(plan), parts)


def show(plan: Plan) -> None:
    """Print the plan for people."""
    echo(f"cluster {plan.name!r}, {plan.ctx.ip_family}, digest {plan.digest[:12]}")
    echo("\noverlays, lowest first:")
    rows = [
        (f"  {overlay.offer.name}", overlay.offer.origin, f"for {', '.join(overlay.asked_by)}")
        for overlay in plan.overlays
    ]
    table(rows)
    for choice in plan.choices:
        echo(f"  {choice.capability}: {choice.chosen} ({choice.reason})")
    changed = [value for value in plan.settings if value.origin != "default"]
    if changed:
        echo("\nsettings that differ from the defaults:")
        table(
            [
                (f"  {setting.key}", str(setting.value), f"from {setting.origin}")
                for setting in changed
            ]
        )
    echo("\nlayers, lowest first:")
    table(
        [
            (f"  {planned.layer.name}", planned.digest[:12], ", ".join(sorted(planned.layer.roles)))
            for planned in plan.layers
        ]
    )
    for directory in plan.directories:
        echo(f"\n{directory.directory}, on top of everything else:")
        for line in directory.lines():
            echo(f"  {line}")
        if directory.added:
            # The plan knows what overlays say, not what is in a ready image.
            echo("  (`up` shows which of the added ones replace a file of the base's image)")
    echo("\nnodes:")
    table(
        [
            (
                f"  {planned.node.name}",
                planned.node.role,
                f"{planned.node.cpus} CPUs",
                f"{planned.node.memory} MiB",
                " ".join(nic.ipv4 for nic in planned.node.nics if nic.network),
            )
            for planned in plan.nodes
        ]
    )
    if plan.checks:
        echo(f"\nchecks: {', '.join(check.name for check in plan.checks)}")
