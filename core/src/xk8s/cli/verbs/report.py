"""xk8s report."""

from __future__ import annotations

import time
from pathlib import Path

import attrs
import click

from xk8s.cli.session import CliSession, pass_session
from xk8s.verbs import cluster_option, echo, json_option, print_json


@click.command()
@click.option(
    "-o", "--output", "path", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="File to write  [default: xk8s-report-CLUSTER-TIME.tar.gz here].",
)  # fmt: skip
@click.option(
    "--check/--no-check", "checks", default=True, help="Run the checks, too, for a limited time."
)
@json_option
@cluster_option
@pass_session
def command(session: CliSession, path: Path | None, checks: bool, as_json: bool) -> None:
    """Create one archive with everything needed to find out what is wrong with a cluster.

    It contains the plan, versions, consoles, journals, the state of networks, pods and containers,
    and at the top (REPORT.md) the known faults. It works even if the cluster is half dead, and for
    what an `up` left whose VMs failed: what could not be collected is noted. Keys, tokens and
    passwords are removed.
    """
    from xk8s.report import CollectedReport, collect
    from xk8s.report.contents import default_path, write

    made = time.time()
    path = path or default_path(session.name, made)
    found: list[CollectedReport] = []

    def make() -> bytes:
        with session.progress() as progress:
            found.append(collect(session.name, progress, checks=checks))
        return found[0].contents.archive(made)

    write(path, make)
    result = found[0]
    contents = result.contents
    if as_json:
        print_json(
            {
                "path": str(path),
                "files": {name: len(data) for name, data in sorted(contents.files.items())},
                "missing": contents.missing,
                "faults": [attrs.asdict(hint) for hint in result.hints],
                "checks": list(result.checks),
                "removed_secrets": contents.scrub.removed,
            }
        )
        return
    for hint in result.hints:
        echo(f"fault: {hint}")
    for line in contents.missing:
        echo(f"not included: {line}")
    size = path.stat().st_size / 1024
    echo(f"{path}: {len(contents.files)} files, {size:.0f} KiB, mode 0600; see REPORT.md in it")
