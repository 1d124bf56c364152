"""xk8s reset."""

from __future__ import annotations

import click

from xk8s.cli.session import Session, cluster_option, pass_session
from xk8s.cli.verbs.snapshot import bring_back


@click.command()
@cluster_option
@pass_session
def command(session: Session) -> None:
    """Bring the cluster back to its last snapshot, whatever was done to it since."""
    from xk8s.cluster.saved import list_saved
    from xk8s.errors import StateError

    own = [one for one in list_saved() if one.cluster == session.name]
    if not own:
        raise StateError(
            f"cluster {session.name!r} has no snapshot",
            hint="`xk8s snapshot save NAME` makes one of a running cluster",
        )
    bring_back(session, max(own, key=lambda one: one.created).label)
