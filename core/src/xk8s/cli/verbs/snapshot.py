"""xk8s snapshot."""

from __future__ import annotations

import datetime

import click

from xk8s.cli.session import CliSession, pass_session
from xk8s.verbs import cluster_option, echo, json_option, print_json, table


@click.group("snapshot")
def command() -> None:
    """Save and restore running clusters.

    `up` saves a cluster that passed its checks (auto-…), for the next `up` of the same plan; the
    last three of a name are kept.
    """


@command.command("save")
@click.argument("label")
@cluster_option
@pass_session
def save(session: CliSession, label: str) -> None:
    """Save the running cluster as LABEL. It is paused meanwhile, and then continues."""
    from xk8s.cluster.up import snapshot

    with session.progress() as progress:
        pause = snapshot(session.name, label, progress)
    echo(f"saved as {label!r}; the cluster was paused for {pause:.2f} s")


@command.command("restore")
@click.argument("label")
@cluster_option
@pass_session
def restore(session: CliSession, label: str) -> None:
    """Restore the cluster as it was when LABEL was saved; whatever runs is shut down."""
    bring_back(session, label)


@command.command("list")
@json_option
@pass_session
def list_all(session: CliSession, as_json: bool) -> None:  # noqa: ARG001
    """List the snapshots of all clusters with their size on disk."""
    from xk8s.cluster.snapshots.store import as_data, list_snapshots

    found = [as_data(saved) for saved in list_snapshots()]
    if as_json:
        print_json(found)
        return
    rows = [("CLUSTER", "LABEL", "SAVED", "MIB", "OVERLAYS", "")]
    for saved in found:
        when = datetime.datetime.fromtimestamp(float(str(saved["created"])))
        rows.append(
            (
                str(saved["cluster"]),
                str(saved["label"]),
                f"{when:%Y-%m-%d %H:%M}",
                str(int(str(saved["bytes"])) >> 20),
                " ".join(str(name) for name in saved["overlays"]),  # type: ignore[attr-defined]
                f"cannot be restored: {saved['problem']}" if saved["problem"] else "",
            )
        )
    table(rows)


@command.command("verify")
@click.argument("label")
@cluster_option
@pass_session
def verify(session: CliSession, label: str) -> None:
    """Read the whole snapshot LABEL and compare it with what was saved.

    `up`, `restore` and `reset` do so by themselves at the first use after a start of this machine;
    after that they compare sizes, times and the small files.
    """
    from xk8s.cluster.snapshots import store
    from xk8s.errors import StateError

    with session.progress() as progress, session.locked(), progress.stage("verify"):
        found = store.find(session.name, label)
        why = store.verify(found)
    if why:
        raise StateError(
            f"snapshot {label!r} cannot be restored: {why}",
            where=str(found.directory),
            hint="`xk8s snapshot remove` removes it",
        )
    echo(f"snapshot {label!r} is intact")


@command.command("remove")
@click.argument("label")
@cluster_option
@pass_session
def remove(session: CliSession, label: str) -> None:
    """Remove the snapshot LABEL. A cluster that was restored from it keeps running."""
    from xk8s.cluster.snapshots import store

    with session.locked():
        store.remove(store.find(session.name, label))


def bring_back(session: CliSession, label: str) -> None:
    """Restore and print how long it took."""
    from xk8s.cluster.up import back_to

    with session.progress() as progress:
        cluster = back_to(session.name, label, progress)
    seconds = sum(cluster.record.seconds.values())
    echo(f"cluster {cluster.name!r} restored from {label!r} after {seconds:.1f} s")
