"""xk8s layers."""

from __future__ import annotations

import datetime
import stat
import sys
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from xk8s.cli.session import (
    CliSession,
    complete_overlays,
    dry_run_option,
    pass_session,
    plan_options,
)
from xk8s.errors import UsageError
from xk8s.util.units import ago, parse_duration, size_text
from xk8s.verbs import ListingGroup, cluster_option, echo, json_option, print_json, table

if TYPE_CHECKING:
    from xk8s.build.layers.cache import CachedLayer, Removed
    from xk8s.planning.plan import Plan, PlannedLayer


@click.group("layers", cls=ListingGroup, subcommand_metavar="[list|show|cat|prune] …")
def command() -> None:
    """Show layer images and their content, and remove unused ones.

    `xk8s layers [OVERLAYS…]` is short for `xk8s layers list [OVERLAYS…]`.
    """


def complete_layers(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the names of the layers in the cache."""
    from xk8s.build.layers.cache import list_layers
    from xk8s.util.paths import cache_dir

    names = {layer.name for layer in list_layers(cache_dir())}
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


def _age(ctx: click.Context, parameter: click.Parameter, value: str | None) -> float:
    if value is None:
        return 0.0
    seconds = parse_duration(value)
    if seconds is None:
        raise click.BadParameter(f"{value!r} is not like 90m, 12h, 7d or 2w", ctx, parameter)
    return float(seconds)


@command.command("list")
@click.argument("overlays", nargs=-1, shell_complete=complete_overlays)
@json_option
@plan_options
@cluster_option
@pass_session
def list_layers(session: CliSession, overlays: tuple[str, ...], as_json: bool) -> None:
    """Show layer images: overlay, size, digest, which VMs get them, whether they are cached.

    With OVERLAYS: what these need, lowest first, cached or not. Without: the whole cache, and who
    needs each image.
    """
    if overlays:
        from xk8s.planning.make_plan import make_plan

        _show_plan(make_plan(session.request(overlays)), as_json=as_json)
    else:
        _show_cache(as_json=as_json)


def _show_plan(plan: Plan, *, as_json: bool) -> None:
    found = [_planned(layer) for layer in plan.layers]
    if as_json:
        print_json(found)
        return
    rows: list[tuple[str, ...]] = [("LAYER", "OVERLAY", "SIZE", "DIGEST", "ROLES", "CACHE")]
    for layer in found:
        state = "there" if layer["cached"] else "not cached"
        if layer["missing"]:
            state += f": needs the artifact {', '.join(layer['missing'])}"
        rows.append(
            (
                layer["name"],
                layer["overlay"],
                "" if layer["size"] is None else size_text(layer["size"]),
                (layer["digest"] or "")[:12],
                _roles(layer["roles"]),
                state,
            )
        )
    table(rows)


def _planned(planned: PlannedLayer) -> dict[str, Any]:
    """Describe a layer of a plan. Its digest is known once all its artifacts are cached."""
    from xk8s.artifact_keys import artifact_key
    from xk8s.build.artifacts.store import Store
    from xk8s.build.layers.build import layer_key, layers_dir
    from xk8s.overlay import Take
    from xk8s.util.paths import cache_dir

    layer = planned.layer
    takes = [entry for entry in layer.entries if isinstance(entry, Take)]
    takes += [layer.image] if layer.image else []
    store = Store(cache_dir())
    artifacts = {artifact_key(take.artifact): take.artifact for take in takes}
    cached = {key: store.cached(artifact, key) for key, artifact in artifacts.items()}
    digest = path = size = None
    if all(cached.values()):
        digest = layer_key(layer, {key: resolved for key, resolved in cached.items() if resolved})
        image = layers_dir(cache_dir()) / f"{digest}.erofs"
        if image.exists():
            path, size = str(image), image.stat().st_size
    return {
        "name": layer.name,
        "overlay": planned.overlay,
        "size": size,
        "digest": digest,
        "roles": sorted(layer.roles),
        "cached": path is not None,
        "path": path,
        "missing": sorted(
            artifacts[key].name for key, resolved in cached.items() if resolved is None
        ),
    }


def _show_cache(*, as_json: bool) -> None:
    from xk8s.build.layers.cache import list_layers
    from xk8s.cluster.disk.references import users
    from xk8s.util.paths import cache_dir

    needed = users(cache_dir())
    found = list_layers(cache_dir())
    if as_json:
        print_json([as_data(layer) | {"needed_by": needed.get(layer.key, ())} for layer in found])
        return
    rows: list[tuple[str, ...]] = [
        ("LAYER", "OVERLAY", "SIZE", "DIGEST", "ROLES", "LAST USED", "NEEDED BY")
    ]
    rows += [
        (
            layer.name,
            layer.overlay,
            size_text(layer.size),
            layer.key[:12],
            _roles(layer.roles),
            f"{datetime.datetime.fromtimestamp(layer.used):%Y-%m-%d %H:%M}",
            ", ".join(needed.get(layer.key, ())),
        )
        for layer in found
    ]
    table(rows)


@command.command("show")
@click.argument("layer", shell_complete=complete_layers)
@json_option
@cluster_option
@pass_session
def show(session: CliSession, layer: str, as_json: bool) -> None:
    """List the paths inside LAYER (name or digest): mode, size, path."""
    from xk8s.build.layers.erofs_read import open_image

    found = _choose(session, layer)
    with open_image(found.path) as image:
        entries = list(image.walk())
    if as_json:
        paths = [
            {
                "path": entry.path,
                "kind": entry.kind,
                "mode": f"{stat.S_IMODE(entry.mode):04o}",
                "size": entry.size,
                "target": entry.target or None,
            }
            for entry in entries
        ]
        print_json(as_data(found) | {"paths": paths})
        return
    for entry in entries:
        target = f" -> {entry.target}" if entry.target else ""
        echo(f"{stat.filemode(entry.mode)} {entry.size:>10}  {entry.path}{target}")


@command.command("cat")
@click.argument("layer", shell_complete=complete_layers)
@click.argument("path")
@cluster_option
@pass_session
def cat(session: CliSession, layer: str, path: str) -> None:
    """Print the file PATH of LAYER, as a starting point for your own version."""
    from xk8s.build.layers.erofs_read import open_image

    with open_image(_choose(session, layer).path) as image:
        found = image.find(path)
        if found is None or not stat.S_ISREG(found.mode):
            raise UsageError(
                f"{path} {'is not a file' if found else 'does not exist'} in layer {layer!r}",
                hint=f"`xk8s layers show {layer}` lists what is in it",
            )
        data = image.read(path)
    sys.stdout.flush()
    sys.stdout.buffer.write(data)


@command.command("prune")
@click.option(
    "--older-than", metavar="AGE", callback=_age,
    help="Only images not used for this long: 90m, 12h, 7d, 2w.",
)  # fmt: skip
@dry_run_option
@json_option
@cluster_option
@pass_session
def prune(session: CliSession, older_than: float, dry_run: bool, as_json: bool) -> None:
    """Remove the images that no running cluster and no snapshot needs.

    They are rebuilt when an `up` needs them; the artifacts that they are built from are kept. What
    killed builds left behind is removed, too.
    """
    from xk8s.build.layers.cache import prune
    from xk8s.cluster.disk.references import users
    from xk8s.util.paths import cache_dir

    cache = cache_dir()
    pruned = prune(cache, lambda: users(cache), older_than=older_than, dry_run=dry_run)
    freed = sum(removed.freed for removed in pruned.removed)
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "freed": freed,
                "removed": [
                    {"name": removed.name, "digest": removed.key, "freed": removed.freed}
                    for removed in pruned.removed
                ],
                "needed": [as_data(layer) | {"needed_by": by} for layer, by in pruned.needed],
                "recent": [as_data(layer) for layer in pruned.recent],
            }
        )
        return
    if not session.quiet and pruned.removed:
        table([_removed(removed) for removed in pruned.removed])
    what = "would be removed" if dry_run else "removed"
    kept = f"{len(pruned.needed)} needed"
    kept += f", {len(pruned.recent)} used recently" if pruned.recent else ""
    echo(f"{len(pruned.removed)} {what}, {size_text(freed)} freed; {kept}")


def _removed(removed: Removed) -> tuple[str, ...]:
    freed = (
        size_text(removed.freed)
        if removed.freed
        else "frees nothing: an artifact has the same data"
    )
    used = f"last used {ago(removed.layer.used)}" if removed.layer else ""
    return removed.name, removed.key[:12], used, freed


def _choose(session: CliSession, name: str) -> CachedLayer:
    from xk8s.build.layers.cache import find_layers
    from xk8s.util.paths import cache_dir

    first, *others = find_layers(cache_dir(), name)
    if others and not session.quiet:
        digests = ", ".join(layer.key[:12] for layer in others)
        session.remark(
            f"this is {first.key[:12]}, used {ago(first.used)}; there are also {digests}"
        )
    return first


def as_data(layer: CachedLayer) -> dict[str, Any]:
    """Return an image as data for programs; its time of last use in seconds since 1970."""
    return {
        "name": layer.name,
        "overlay": layer.overlay,
        "size": layer.size,
        "digest": layer.key,
        "roles": list(layer.roles),
        "artifacts": list(layer.artifacts),
        "used": layer.used,
        "path": str(layer.path),
    }


def _roles(roles: tuple[str, ...] | list[str]) -> str:
    from xk8s.overlay import ALL_ROLES

    return "all" if set(roles) == ALL_ROLES else ", ".join(roles)
