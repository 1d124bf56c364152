"""xk8s cp."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from xk8s.cli.session import CliSession, pass_session
from xk8s.errors import UsageError
from xk8s.verbs import cluster_option

if TYPE_CHECKING:
    from xk8s.cluster.access.copy_files import Remote


@click.command()
@click.option("-r", "--recursive", is_flag=True, help="Accepted; directories are always copied.")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE…")
@click.argument("target")
@cluster_option
@pass_session
def command(
    session: CliSession,
    sources: tuple[str, ...],
    target: str,
    recursive: bool,  # noqa: ARG001 - people type -r
) -> None:
    """Copy SOURCE… to TARGET; NODE:PATH is a path of a node, any other one of this machine.

    Directories are copied with their content. Permissions and times are kept, owners are not: in a
    node, everything belongs to root. A TARGET that is a directory gets the copies below their own
    names. A relative PATH is below /root. No network of the guest is needed.
    """
    from xk8s.cluster.access.copy_files import Remote, download, upload

    cluster = session.cluster()
    origins = [_operand(text) for text in sources]
    to = _operand(target)
    local = [path for path in origins if isinstance(path, Path)]
    remote = [path for path in origins if isinstance(path, Remote)]
    for path in [*remote, to]:
        if isinstance(path, Remote):
            cluster.record.node(path.node)
    if isinstance(to, Remote) and not remote:
        upload(cluster, local, to)
    elif isinstance(to, Path) and not local:
        download(cluster, remote, to)
    else:
        raise UsageError(
            "one side has to be this machine, the other one a node",
            where=" ".join([*sources, target]),
            hint="xk8s cp FILE vm-001:/tmp/, or xk8s cp vm-001:/etc/hosts .",
        )


def _operand(text: str) -> Path | Remote:
    """Tell paths of nodes from those of this machine as scp does: ./a:b is one of this machine."""
    from xk8s.cluster.access.copy_files import Remote

    node, colon, path = text.partition(":")
    if colon and node and "/" not in node:
        return Remote(node, path)
    return Path(text)
