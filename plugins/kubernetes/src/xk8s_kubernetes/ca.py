"""xk8s ca: the keys of a running cluster, shown and rotated."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click
from xk8s.errors import StateError, UsageError
from xk8s.verbs import (
    Session,
    cluster_option,
    echo,
    json_option,
    pass_session,
    print_json,
    table,
)

if TYPE_CHECKING:
    from xk8s.context import ClusterAccess
    from xk8s.progress import Progress


@click.group("ca", short_help="Show or replace the cluster's keys.")
def command() -> None:
    """Show or rotate the authorities, certificates and keys of a running cluster."""


@command.command("show")
@json_option
@cluster_option
@pass_session
def show(session: Session, as_json: bool) -> None:
    """List authorities and what they signed: subject, expiry, SHA-256 fingerprint.

    No private key is read or shown.
    """
    from xk8s.pki import describe

    cluster = session.cluster()
    directory = cluster.keys.directory
    found = describe(directory)
    if not found:
        raise StateError(
            f"cluster {cluster.name!r} has no keys",
            where=str(directory),
            hint="none of its overlays creates any",
        )
    if as_json:
        print_json(
            [
                {
                    "name": key.name,
                    "kind": key.kind,
                    "subject": key.subject,
                    "issuer": key.issuer,
                    "sans": list(key.sans),
                    "not_before": key.not_before.isoformat() if key.not_before else None,
                    "not_after": key.not_after.isoformat() if key.not_after else None,
                    "sha256": key.sha256,
                }
                for key in found
            ]
        )
        return
    rows = [("NAME", "KIND", "SUBJECT", "EXPIRES", "SHA256")]
    rows += [
        (
            key.name,
            key.kind,
            key.subject,
            f"{key.not_after:%Y-%m-%d}" if key.not_after else "",
            f"{key.sha256[:16]}…",
        )
        for key in found
    ]
    table(rows)


@command.command("rotate")
@json_option
@cluster_option
@pass_session
def rotate(session: Session, as_json: bool) -> None:
    """Replace authorities, certificates and token keys of the running cluster.

    The new ones are copied to the nodes through the guest agent; what uses them is restarted, pods
    with a token are recreated, and all checks run. After that the old ones are no longer accepted,
    and the snapshots that `up` made with them are removed. If it fails, run it again: it continues.
    """
    from xk8s_kubernetes.renew import Renewed, renew

    started = time.monotonic()
    renewed = Renewed(recreated=(), left=())

    def within(cluster: ClusterAccess, progress: Progress) -> None:
        nonlocal renewed
        if "kubernetes" in cluster.ctx.overlays:
            renewed = renew(cluster, progress)

    with session.progress() as progress:
        done = session.rotate_keys(progress, renew=within)
    report = {
        "cluster": done.cluster.name,
        "seconds": round(time.monotonic() - started, 1),
        "pods_recreated": list(renewed.recreated),
        "pods_left": list(renewed.left),
        "snapshots_removed": list(done.removed),
        "snapshots_with_old_keys": list(done.kept),
        "kubeconfig": str(done.cluster.state_dir / "kubeconfig"),
        "kubeconfig_to_merge_again": merged_in(done.cluster.name),
    }
    if as_json:
        print_json(report)
    else:
        summarize(report)


def summarize(report: dict[str, Any]) -> None:
    """Say what was done, and what is left to the user."""
    name = report["cluster"]
    option = "" if name == "xk8s" else f" --name {name}"
    echo(f"cluster {name!r} has new keys and is Ready after {report['seconds']:.0f} s")
    if report["pods_recreated"]:
        echo(f"  pods recreated:  {', '.join(report['pods_recreated'])}")
    if report["pods_left"]:
        echo(
            "  nothing recreates these pods; their files are renewed within two minutes, programs "
            f"that do not read them again must be restarted: {', '.join(report['pods_left'])}"
        )
    if report["snapshots_removed"]:
        echo("  the next up boots: the snapshot that it would restore had the old keys")
    for label in report["snapshots_with_old_keys"]:
        echo(
            f"  snapshot {label!r} has the old keys and brings them back: "
            f"xk8s snapshot remove {label}{option}"
        )
    if report["kubeconfig_to_merge_again"]:
        echo(
            f"  {report['kubeconfig_to_merge_again']} has the old keys: "
            f"xk8s kubeconfig --merge{option}"
        )


def merged_in(cluster: str) -> str:
    """Return the file of kubectl itself if it has an entry for this cluster, else ""."""
    from xk8s_kubernetes.command import context_name, files_with

    try:
        found = files_with(context_name(cluster))
    except UsageError:
        return ""  # whatever that file is: nothing was ever merged into it
    return str(found[0]) if found else ""
