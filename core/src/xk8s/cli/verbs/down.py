"""xk8s down."""

from __future__ import annotations

import click

from xk8s.cli.session import CliSession, pass_session
from xk8s.errors import Xk8sError
from xk8s.verbs import cluster_option


@click.command()
@click.option("--all", "every", is_flag=True, help="All clusters of this user.")
@cluster_option
@pass_session
def command(session: CliSession, every: bool) -> None:
    """Shut down the cluster: its processes, namespace, sockets and records.

    This also works for a cluster that `up` left half-started, and does nothing if there is none.
    """
    from xk8s.cluster.down import down

    failed: Xk8sError | None = None
    with session.progress() as progress:
        for name in names() if every else [session.name]:
            try:
                found = down(name, progress)
            except Xk8sError as error:
                if failed is not None:
                    progress.note(f"{name}: {error}")
                failed = failed or error
                continue
            if not session.quiet:
                text = "is down" if found else "was not up"
                session.remark(f"cluster {name!r} {text}")
    if failed is not None:
        raise failed


def names() -> list[str]:
    """List clusters with a state directory, with only a runtime directory (an `up` was killed
    early), or with nothing but the remains of a failed `up`.
    """
    from xk8s.cluster.state.failed_start import list_failures
    from xk8s.cluster.state.record import list_clusters
    from xk8s.util.paths import is_name, runtime_root

    root = runtime_root()
    found = root.iterdir() if root.is_dir() else ()
    running = [path.name for path in found if is_name(path.name) and path.is_dir()]
    return sorted({*list_clusters(), *running, *list_failures()})
