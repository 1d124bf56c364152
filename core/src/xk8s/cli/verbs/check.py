"""xk8s check."""

from __future__ import annotations

import click

from xk8s.cli.session import Session, cluster_option, json_option, pass_session, print_json
from xk8s.errors import CheckFailed


@click.command()
@json_option
@cluster_option
@pass_session
def command(session: Session, as_json: bool) -> None:
    """Run the checks of the cluster's overlays, in order, up to the first that fails."""
    from xk8s.checks import run_checks

    cluster = session.cluster()
    cluster.check_alive()
    results = []
    with session.progress() as progress:
        for result in run_checks(
            cluster.plan.checks, cluster.checks, alive=cluster.check_alive, progress=progress.item
        ):
            progress.finish(result.name)
            results.append(result)
            if not as_json:
                mark = "ok  " if result.ok else "FAIL"
                click.echo(f"{mark} {result.name}: {result.detail} ({result.seconds:.1f} s)")
    if as_json:
        print_json(
            [
                {"name": one.name, "ok": one.ok, "detail": one.detail, "seconds": one.seconds}
                for one in results
            ]
        )
    if results and not results[-1].ok:
        last = results[-1]
        explain = next(one.explain for one in cluster.plan.checks if one.name == last.name)
        raise CheckFailed(
            f"check {last.name} failed",
            where=f"cluster {cluster.name!r}",
            hint="xk8s logs, xk8s exec",
            log=explain(cluster.checks) if explain else "",
        )
