"""xk8s explain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import click

from xk8s.cli.session import CliSession, pass_session, plan_options
from xk8s.errors import UsageError
from xk8s.verbs import cluster_option, echo, json_option, print_json

if TYPE_CHECKING:
    from xk8s.names.request import Request
    from xk8s.names.settings import Value


@click.command()
@click.argument("key")
@json_option
@plan_options
@cluster_option
@pass_session
def command(session: CliSession, key: str, as_json: bool) -> None:
    """Explain the setting KEY (overlay.name): type, default, value, and origin.

    With only the name of an overlay: all of its settings. "cluster" and "plugins" are those of the
    core. A dot in a name is an underscore; "kubernetes.apiserver" means every setting that begins
    with it.
    """
    from xk8s.planning.make_plan import explain
    from xk8s.util.digest import plain

    request = session.request(())
    keys, many = wanted(key, request)
    values = [explain(request, setting) for setting in keys]
    if as_json:
        data = [{**attrs.asdict(value), "key": value.key} for value in values]
        print_json(plain(data if many else data[0]))
        return
    for index, value in enumerate(values):
        if index:
            echo()
        show(value)


def wanted(key: str, request: Request) -> tuple[list[str], bool]:
    """Return the keys that a user means, and whether there may be any number of them."""
    from xk8s.names.settings import canonical

    overlay, dot, name = key.partition(".")
    name = canonical(name)
    known = fields(overlay, request)
    if dot and name not in known:
        known = [field for field in known if field.startswith(f"{name}_")]
    many = not dot or (name not in known and bool(known))
    return ([f"{overlay}.{field}" for field in known] if many else [key]), many


def fields(overlay: str, request: Request) -> list[str]:
    """Return the names of an overlay's settings; `UsageError` if it has none."""
    from xk8s.names.allow_list import policy
    from xk8s.names.core_settings import CORE_SETTINGS
    from xk8s.names.registry import Registry

    cls: type[Any] | None = CORE_SETTINGS.get(overlay)
    if cls is None:
        cls = Registry(rules=policy(request)).overlay(overlay).settings
    if cls is None:
        raise UsageError(f"overlay {overlay!r} has no settings")
    return [attribute.name for attribute in attrs.fields(cls)]


def show(value: Value) -> None:
    """Print a setting for people."""
    from xk8s.names.convert import text

    echo(f"{value.key}: {value.help}")
    echo(f"  type     {value.type}")
    if value.allowed:
        echo(f"  allowed  {value.allowed}")
    echo(f"  default  {text(value.default)}")
    echo(f"  value    {text(value.value)}")
    echo(f"  from     {value.origin}")
