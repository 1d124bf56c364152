"""xk8s reset."""

from __future__ import annotations

import click

from xk8s.cli.session import CliSession, pass_session
from xk8s.cli.verbs.snapshot import bring_back
from xk8s.verbs import cluster_option


@click.command()
@cluster_option
@pass_session
def command(session: CliSession) -> None:
    """Restore the snapshot that the cluster was last saved as or restored from.

    If the cluster is down: the latest one of its name.
    """
    from xk8s.cluster.snapshots.store import list_snapshots
    from xk8s.cluster.state.record import read_record
    from xk8s.errors import StateError

    record = read_record(session.name)
    label = record.snapshot if record else ""
    if not label:
        own = [snapshot for snapshot in list_snapshots() if snapshot.cluster == session.name]
        if not own:
            raise StateError(
                f"cluster {session.name!r} has no snapshot",
                hint="`xk8s snapshot save NAME` makes one of a running cluster",
            )
        label = max(own, key=lambda snapshot: snapshot.created).label
    bring_back(session, label)
