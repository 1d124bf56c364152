"""xk8s overlays."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, metadata

import click

from xk8s.cli.session import Session, cluster_option, json_option, pass_session, print_json
from xk8s.cli.verbs.status import table


@click.command()
@click.option("-l", "--long", "load", is_flag=True, help="Load each: requires and provides too.")
@json_option
@cluster_option
@pass_session
def command(session: Session, load: bool, as_json: bool) -> None:  # noqa: ARG001
    """List the installed overlays. Without --long none of them is imported."""
    from xk8s.registry import Registry, available

    offers = available()
    registry = Registry() if load else None
    found = []
    for offer in offers:
        item: dict[str, object] = {
            "name": offer.name,
            "distribution": offer.distribution,
            "version": offer.version,
            "summary": summary(offer.distribution),
        }
        if registry:
            overlay = registry.overlay(offer.name)
            item |= {
                "summary": overlay.summary,
                "requires": [*overlay.requires, *overlay.completed_by],
                "provides": list(overlay.provides),
                "conflicts": list(overlay.conflicts),
            }
        found.append(item)
    if as_json:
        print_json(found)
        return
    rows = []
    for item in found:
        cells = [str(item["name"]), f"{item['distribution']} {item['version']}"]
        if load:
            cells += [f"{key} {_names(item[key])}" for key in ("requires", "provides")]
        rows.append((*cells, str(item["summary"])))
    if rows:
        table(rows)


def _names(value: object) -> str:
    return ",".join(value) if isinstance(value, list) and value else "-"


def summary(distribution: str) -> str:
    """The one line that the distribution says of itself."""
    try:
        return metadata(distribution)["Summary"] or ""
    except PackageNotFoundError:
        return ""
