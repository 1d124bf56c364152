"""xk8s check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
import click
from click.shell_completion import CompletionItem

from xk8s.cli.session import CliSession, pass_session
from xk8s.errors import CheckFailed, UsageError, Xk8sError, nearest
from xk8s.verbs import cluster_option, echo, json_option, print_json

if TYPE_CHECKING:
    from xk8s.cluster.handle import Cluster
    from xk8s.overlay import Check


def complete_checks(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the names of the cluster's checks; nothing if there is no cluster."""
    try:
        checks = ctx.ensure_object(CliSession).cluster().plan.checks
    except Xk8sError:
        return []
    return [CompletionItem(check.name) for check in checks if check.name.startswith(incomplete)]


@click.command()
@click.argument("names", nargs=-1, metavar="[CHECK]...", shell_complete=complete_checks)
@click.option("--list", "as_list", is_flag=True, help="List the checks without running them.")
@click.option("--faults", is_flag=True, help="Search all logs for known faults instead.")
@json_option
@cluster_option
@pass_session
def command(
    session: CliSession, names: tuple[str, ...], as_list: bool, faults: bool, as_json: bool
) -> None:
    """Run the checks of the cluster's overlays, in order, up to the first that fails.

    CHECK is a name, or its first word: "externalip" means all checks of that overlay's addresses.
    With --faults, consoles, journals and events of all nodes are searched for faults that the
    overlays know; each comes with its cause and remedy.
    """
    from xk8s.cluster.absent import absence_text, ended
    from xk8s.cluster.change.reboots import lacking_nodes

    whole = session.cluster()
    absent = whole.absent
    cluster = whole.without(absent)
    if faults:
        if names or as_list:
            raise click.UsageError("--faults takes no CHECK and no --list")
        show_faults(session, whole, as_json=as_json)
        return
    checks = chosen(cluster.plan.checks, names)
    if as_list:
        if as_json:
            print_json([{"name": check.name, "timeout": check.timeout} for check in checks])
        else:
            echo("".join(f"{check.name}\n" for check in checks), nl=False)
        return
    if len(absent) == len(whole.record.nodes) and {*absent.values()} == {"dead"}:
        raise ended(whole.name)
    troubles = [absence_text(whole.name, *item) for item in absent.items()]
    for text in troubles:
        session.remark(f"not checked: {text}")
    run(session, cluster, checks, as_json=as_json)
    troubles += [
        f"{node} has rebooted and lacks what was applied since its start: xk8s apply"
        for node in lacking_nodes(whole)
    ]
    if troubles:
        raise CheckFailed("; ".join(troubles), where=f"cluster {whole.name!r}")


def chosen(checks: Sequence[Check], names: Sequence[str]) -> tuple[Check, ...]:
    """Return the checks with these names, in their own order; all of them without names.
    `UsageError` for an unknown name.
    """

    def means(name: str, check: Check) -> bool:
        return check.name == name or check.name.startswith(f"{name} ")

    for name in names:
        if not any(means(name, check) for check in checks):
            known = [check.name for check in checks]
            raise UsageError(
                f"there is no check {name!r}",
                hint=f"{nearest(name, known)}there are: {', '.join(known) or 'none'}",
            )
    return tuple(
        check for check in checks if not names or any(means(name, check) for name in names)
    )


def run(session: CliSession, cluster: Cluster, checks: Sequence[Check], *, as_json: bool) -> None:
    """Run the checks; `CheckFailed` for the first that fails, with log and known faults."""
    from xk8s.cluster.checks.diagnosis import failed_check
    from xk8s.cluster.checks.run import results_of

    results = []
    with session.progress() as progress:
        for result in results_of(cluster, checks, progress):
            results.append(result)
            if not as_json:
                mark = "ok  " if result.ok else "FAIL"
                echo(f"{mark} {result.name}: {result.detail} ({result.seconds:.1f} s)")
        if as_json:
            print_json(
                [
                    {
                        "name": result.name,
                        "ok": result.ok,
                        "detail": result.detail,
                        "seconds": result.seconds,
                    }
                    for result in results
                ]
            )
        if results and not results[-1].ok:
            last = results[-1]
            check = next(check for check in checks if check.name == last.name)
            hint = "xk8s logs, xk8s exec; `xk8s report` collects everything"
            raise failed_check(cluster, check, last, progress, hint=hint)


def show_faults(session: CliSession, cluster: Cluster, *, as_json: bool) -> None:
    """Show the known faults in all logs. A node that does not answer is named; only its console is
    searched.
    """
    from xk8s.cluster.checks.diagnosis import examine

    with session.progress() as progress:
        found = examine(cluster, progress)
    if as_json:
        print_json(
            {"faults": [attrs.asdict(hint) for hint in found.hints], "missing": found.missing}
        )
        return
    for line in found.missing:
        session.remark(f"not searched: {line}")
    for hint in found.hints:
        echo(str(hint))
    if not found.hints:
        nodes = ", ".join(node.name for node in cluster.record.nodes)
        echo(f"no known faults in the logs of {nodes or 'no nodes'}")
