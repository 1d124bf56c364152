"""xk8s doctor."""

from __future__ import annotations

import attrs
import click

from xk8s.cli.session import CliSession, pass_session
from xk8s.verbs import cluster_option, echo, json_option, print_json


@click.command()
@json_option
@cluster_option
@pass_session
def command(session: CliSession, as_json: bool) -> None:  # noqa: ARG001
    """Show what this machine has and lacks, and what to do. Exit code 5 if `up` cannot work."""
    from xk8s.report.doctor import examine, require

    findings = examine()
    if as_json:
        print_json([attrs.asdict(finding) for finding in findings])
    else:
        width = max(len(finding.name) for finding in findings)
        said: set[str] = set()
        for finding in findings:
            echo(f"{finding.level:<4}  {finding.name:<{width}}  {finding.text}")
            if finding.do:
                # One line of packages answers several findings.
                do = "the same as above" if finding.do in said else finding.do
                echo(f"{'':<{width + 8}}do: {do}")
                said.add(finding.do)
    require(findings)
