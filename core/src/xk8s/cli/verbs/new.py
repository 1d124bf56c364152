"""xk8s new."""

from __future__ import annotations

from pathlib import Path

import click

from xk8s.cli.session import CliSession, pass_session
from xk8s.verbs import cluster_option, echo


@click.command()
@click.argument("overlay", metavar="NAME")
@click.option(
    "--directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False),
    help="Directory to write  [default: ./NAME].",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
@cluster_option
@pass_session
def command(session: CliSession, overlay: str, directory: Path | None, overwrite: bool) -> None:
    """Create the distribution of a new overlay NAME, to be installed with pip and published.

    It has one layer, one setting, one check, passing tests, a CI configuration and a README;
    existing files in the directory are kept unless you say otherwise.
    """
    from xk8s.scaffold.new import check_overlay_name, make_overlay

    check_overlay_name(overlay, again=overwrite)  # before it becomes a path
    where = directory or Path(overlay)
    written = make_overlay(overlay, where, overwrite=overwrite)
    for path in written:
        echo(path)
    if not session.quiet:
        session.remark(f"next: cd {where} && pip install -e '.[test]' && pytest")
