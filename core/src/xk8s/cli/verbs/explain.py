"""xk8s explain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import click

from xk8s.cli.session import (
    Session,
    cluster_option,
    json_option,
    pass_session,
    plan_options,
    print_json,
)
from xk8s.errors import UsageError

if TYPE_CHECKING:
    from xk8s.config import Value


@click.command()
@click.argument("key")
@json_option
@plan_options
@cluster_option
@pass_session
def command(session: Session, key: str, as_json: bool) -> None:
    """Tell what the setting KEY (overlay.name) means: type, default, value, and its origin.

    With the name of an overlay alone: all of its settings. "cluster" has those of the core.
    """
    from xk8s.digest import plain
    from xk8s.plan import explain

    request = session.request(())
    keys = [key] if "." in key else [f"{key}.{name}" for name in fields(key)]
    values = [explain(request, one) for one in keys]
    if as_json:
        data = [{**attrs.asdict(value), "key": value.key} for value in values]
        print_json(plain(data if "." not in key else data[0]))
        return
    for index, value in enumerate(values):
        if index:
            click.echo()
        show(value)


def fields(overlay: str) -> list[str]:
    """Names of an overlay's settings; `UsageError` when it has none."""
    from xk8s.config import ClusterSettings
    from xk8s.registry import Registry

    cls: type[Any] | None = ClusterSettings
    if overlay != "cluster":
        cls = Registry().overlay(overlay).settings
    if cls is None:
        raise UsageError(f"overlay {overlay!r} has no settings")
    return [attribute.name for attribute in attrs.fields(cls)]


def show(value: Value) -> None:
    """One setting for people."""
    click.echo(f"{value.key}: {value.help}")
    click.echo(f"  type     {value.type}")
    click.echo(f"  default  {text(value.default)}")
    click.echo(f"  value    {text(value.value)}")
    click.echo(f"  from     {value.origin}")


def text(value: object) -> str:
    """A value as it is written on the command line."""
    if value is None or value == "":
        return "(none)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ",".join(f"{key}={item}" for key, item in value.items()) or "(none)"
    if isinstance(value, (tuple, list, frozenset)):
        return ",".join(str(item) for item in value) or "(none)"
    return str(value)
