"""xk8s cache."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import click

from xk8s.cli.session import CliSession, dry_run_option, pass_session
from xk8s.util.units import ago, parse_size, size_text
from xk8s.verbs import ListingGroup, cluster_option, echo, json_option, print_json, table

if TYPE_CHECKING:
    from xk8s.cluster.disk.usage import Piece


@click.group("cache", cls=ListingGroup, subcommand_metavar="[list|prune] …")
def command() -> None:
    """Show what uses disk space, and free some.

    `xk8s cache` is short for `xk8s cache list`.
    """


@command.command("list")
@click.option("--all", "every", is_flag=True, help="List every item, not only snapshots.")
@json_option
@cluster_option
@pass_session
def list_all(session: CliSession, every: bool, as_json: bool) -> None:
    """Show the sizes of artifacts, layers, downloads, clusters and snapshots, and their limits."""
    from xk8s.cluster.disk.usage import KINDS, pieces
    from xk8s.util.paths import cache_dir, snapshots_root

    found = pieces(cache_dir())
    bound = _snapshot_size(session)
    total = sum(piece.size for piece in found)
    automatic = sum(piece.size for piece in found if piece.automatic)
    if as_json:
        print_json(
            {
                "cache": str(cache_dir()),
                "snapshots": str(snapshots_root()),
                "total": total,
                "kinds": {
                    kind: sum(piece.size for piece in found if piece.kind == kind) for kind in KINDS
                },
                "automatic_snapshots": automatic,
                "snapshot_size": bound,
                "pieces": [as_data(piece) for piece in found],
            }
        )
        return
    rows: list[tuple[str, ...]] = [("KIND", "NAME", "SIZE", "LAST USED", "NEEDED BY")]
    for kind in KINDS:
        ours = [piece for piece in found if piece.kind == kind]
        if not ours:
            continue
        size = size_text(sum(piece.size for piece in ours))
        rows.append((kind, f"({len(ours)})", size, _when(max(piece.used for piece in ours)), ""))
        if every or kind == "snapshots":
            rows += [_row(piece) for piece in ours]
    table(rows)
    echo(
        f"{size_text(total)} in all; automatic snapshots take {size_text(automatic)} of at most "
        f"{size_text(bound)} (cluster.snapshot_size)"
    )


@command.command("prune")
@click.option(
    "--max-size", metavar="SIZE", callback=parse_size,
    help="Continue, least recently used first, until the total is at most SIZE: 20G, 512M.",
)  # fmt: skip
@dry_run_option
@json_option
@cluster_option
@pass_session
def prune(session: CliSession, max_size: int | None, dry_run: bool, as_json: bool) -> None:
    """Free disk space, least recently used first; anything still referenced is kept.

    This removes what killed commands left behind, automatic snapshots beyond three of each cluster
    and cluster.snapshot_size in all, and what nobody needs and used for a month. Named snapshots,
    those of running clusters, and what VMs or snapshots need are always kept. What is removed is
    made or fetched again when it is needed.
    """
    from xk8s.cluster.disk.prune import prune
    from xk8s.util.paths import cache_dir

    done = prune(
        cache_dir(), snapshot_size=_snapshot_size(session), max_size=max_size, dry_run=dry_run
    )
    freed = sum(piece.size for piece in done.removed)
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "freed": freed,
                "left": done.left,
                "removed": [as_data(piece) for piece in done.removed],
            }
        )
        return
    if done.removed and not session.quiet:
        table([(piece.kind, piece.name, size_text(piece.size), f"last used {ago(piece.used)}")
               for piece in done.removed])  # fmt: skip
    what = "would be removed" if dry_run else "removed"
    echo(f"{len(done.removed)} {what}, {size_text(freed)} freed; {size_text(done.left)} left")
    if max_size is not None and done.left > max_size:
        session.remark(
            "everything else is needed, named by you, or was used today: see `xk8s cache --all`"
        )


def as_data(piece: Piece) -> dict[str, Any]:
    """Return data for programs: bytes, and the time of the last use in seconds since 1970."""
    return {
        "kind": piece.kind,
        "name": piece.name,
        "path": str(piece.path),
        "bytes": piece.size,
        "used": piece.used,
        "automatic": piece.automatic,
        "needed_by": list(piece.needed_by),
    }


def _row(piece: Piece) -> tuple[str, ...]:
    name = f"  {piece.name}"
    return "", name, size_text(piece.size), _when(piece.used), ", ".join(piece.needed_by)


def _when(used: float) -> str:
    return f"{datetime.datetime.fromtimestamp(used):%Y-%m-%d %H:%M}"


def _snapshot_size(session: CliSession) -> int:
    """Return the setting, in bytes."""
    from xk8s.names.core_settings import ClusterSettings
    from xk8s.names.settings import Settings

    settings: ClusterSettings = Settings(session.request(())).load("cluster", ClusterSettings)
    return settings.snapshot_size << 20
