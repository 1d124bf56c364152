"""xk8s artifacts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from xk8s.cli.session import CliSession, complete_overlays, pass_session, plan_options
from xk8s.verbs import cluster_option, echo, json_option, print_json, table

if TYPE_CHECKING:
    from xk8s.build.artifacts.attempt import Resolved


@click.command()
@click.argument("overlays", nargs=-1, shell_complete=complete_overlays)
@click.option("--fetch", is_flag=True, help="Fetch or build missing artifacts of OVERLAYS now.")
@click.option(
    "--update-tags", is_flag=True, help="Fetch, and pull images whose tags have moved again."
)
@click.option("--update-lock", is_flag=True, help="Fetch, and pin the result in ./xk8s.lock.")
@json_option
@plan_options
@cluster_option
@pass_session
def command(
    session: CliSession,
    overlays: tuple[str, ...],
    fetch: bool,
    update_tags: bool,
    update_lock: bool,
    as_json: bool,
) -> None:
    """Show where each downloaded or built file came from, with its digest.

    With OVERLAYS: what these need, whether cached or not. Without: the whole cache. If ./xk8s.lock
    exists, what is fetched must match it.
    """
    from xk8s.build.artifacts.lockfile import project_lock
    from xk8s.build.artifacts.store import Store
    from xk8s.build.artifacts.tags import update
    from xk8s.util.paths import cache_dir

    store = Store(cache_dir(), lock=project_lock(update=update_lock))
    fetch = fetch or update_tags or update_lock
    missing: list[str] = []
    if overlays:
        from xk8s.planning.make_plan import make_plan

        wanted = make_plan(session.request(overlays), online=fetch).artifacts
        if fetch:
            with session.progress() as progress, progress.stage("artifacts"):
                if update_tags and update(wanted, store, progress):
                    wanted = make_plan(session.request(overlays)).artifacts
                store.get_many(wanted, progress)
        cached = [(artifact, store.cached(artifact)) for artifact in wanted]
        found = [resolved for _, resolved in cached if resolved is not None]
        missing = [
            f"{artifact.name} {artifact.version}"
            for artifact, resolved in cached
            if resolved is None
        ]
    else:
        if fetch:
            raise click.UsageError("--fetch, --update-tags and --update-lock need OVERLAYS")
        found = list(store.list_cached())
    if as_json:
        print_json({"artifacts": [as_data(resolved) for resolved in found], "missing": missing})
        return
    for resolved in found:
        show(resolved)
    for name in missing:
        echo(f"{name}  not cached yet")


def show(resolved: Resolved) -> None:
    """Format an artifact for people: its members, each with the source that provided it."""
    echo(f"{resolved.name} {resolved.version}  {resolved.digest[:12]}  {resolved.path}")
    table(
        [(f"  {origin.member}", origin.kind, origin.detail) for origin in resolved.provenance]
        or [("",)]
    )


def as_data(resolved: Resolved) -> dict[str, object]:
    """Return an artifact as data for programs."""
    return {
        "name": resolved.name,
        "version": resolved.version,
        "key": resolved.key,
        "digest": resolved.digest,
        "path": str(resolved.path),
        "members": [
            {"member": origin.member, "source": origin.kind, "detail": origin.detail}
            for origin in resolved.provenance
        ],
    }
