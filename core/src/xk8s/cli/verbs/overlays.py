"""xk8s overlays."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, metadata
from typing import TYPE_CHECKING

import click

from xk8s.cli.session import CliSession, pass_session
from xk8s.verbs import cluster_option, json_option, print_json, table

if TYPE_CHECKING:
    from xk8s.names.discovery import Offer
    from xk8s.names.registry import Registry


@click.command()
@click.option("-l", "--long", "load", is_flag=True, help="Load each; show requires and provides.")
@json_option
@cluster_option
@pass_session
def command(session: CliSession, load: bool, as_json: bool) -> None:  # noqa: ARG001
    """List the installed overlays. Without --long none of them is imported.

    An overlay is a plugin: a program that runs as you, with all your permissions. Refused ones
    are listed with the reason; plugins.allow in xk8s.toml says which distributions may be
    used.
    """
    from xk8s.names.registry import Registry, available

    offers = available()
    registry = Registry() if load else None
    found = [describe(offer, registry) for offer in offers]
    if as_json:
        print_json(found)
        return
    rows = []
    for item in found:
        cells = [str(item["name"]), f"{item['distribution']} {item['version']}"]
        if load:
            cells += [f"{key} {_names(item.get(key))}" for key in ("requires", "provides")]
        trouble = item.get("error") or (item["refused"] and f"refused: {item['refused']}")
        rows.append((*cells, str(trouble or item["summary"])))
    if rows:
        table(rows)


def describe(offer: Offer, registry: Registry | None) -> dict[str, object]:
    """Return an overlay as JSON data; with a registry it is loaded, and what is wrong is
    included.
    """
    from xk8s.errors import Xk8sError

    item: dict[str, object] = {
        "name": offer.name,
        "distribution": offer.distribution,
        "version": offer.version,
        "summary": summary(offer.distribution),
        "refused": offer.refused or None,
    }
    if registry is None or offer.refused:
        return item
    try:
        overlay = registry.overlay(offer.name)
    except Xk8sError as error:
        return {**item, "error": f"{error} ({error.where})" if error.where else str(error)}
    return item | {
        "summary": overlay.summary,
        "requires": [*overlay.requires, *overlay.completed_by],
        "provides": list(overlay.provides),
        "conflicts": list(overlay.conflicts),
    }


def _names(value: object) -> str:
    return ",".join(value) if isinstance(value, list) and value else "-"


def summary(distribution: str) -> str:
    """Return the distribution's own one-line summary."""
    try:
        return metadata(distribution)["Summary"] or ""
    except PackageNotFoundError:
        return ""
