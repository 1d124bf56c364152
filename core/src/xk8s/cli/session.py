"""What options have in common: which cluster, how much to say, and the request they make.

Makers of commands (entry-point group ``xk8s.v1.commands``, value: a `click.Command`) use
`cluster_option` and `pass_session`::

    @click.command()
    @cluster_option
    @pass_session
    def command(session: Session) -> None:
        click.echo(session.cluster().name)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from xk8s.cluster import Cluster
    from xk8s.config import Request
    from xk8s.progress import Progress

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

DEFAULT_NAME = "xk8s"


class Session:
    """The options of one call of `xk8s`, as far as verbs share them."""

    # A plain class: `xk8s --help` should not wait for attrs to be imported.

    def __init__(self, name: str = DEFAULT_NAME) -> None:
        """``name``: the cluster, unless an option says another one."""
        self.name = name
        self.verbose = 0
        self.quiet = False
        self.log_json = False
        self.sets: list[str] = []
        self.sizes: dict[str, list[str]] = {}
        self.config_file: Path | None = None

    def request(self, overlays: tuple[str, ...]) -> Request:
        """What the plan is to be made from."""
        from xk8s.config import Request

        sizes = [f"cluster.{name}={','.join(items)}" for name, items in self.sizes.items()]
        return Request(
            overlays=overlays,
            name=self.name,
            sets=(*self.sets, *sizes),
            config_file=self.config_file,
        )

    def cluster(self) -> Cluster:
        """The running cluster that ``--name`` says; `StateError` when there is none."""
        from xk8s.cluster import open_cluster

        return open_cluster(self.name)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """A drawer of progress on stderr: live on a terminal, lines elsewhere."""
        from xk8s.cli.progress import renderer

        with renderer(quiet=self.quiet) as progress:
            yield progress

    def configure_log(self) -> None:
        """(Re)configure logging by the options read so far."""
        from xk8s.log import configure

        configure(verbose=self.verbose, quiet=self.quiet, as_json=self.log_json)


pass_session = click.make_pass_decorator(Session, ensure=True)


class ListingGroup(click.Group):
    """Lists, unless another subcommand is named: ``xk8s layers kubernetes`` is ``xk8s layers list
    kubernetes``.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does."""
        known = {*self.commands, *ctx.help_option_names}
        return super().parse_args(ctx, args if args and args[0] in known else ["list", *args])


def print_json(value: object) -> None:
    """JSON for programs on stdout, the same each time for the same value."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


# --- options ----------------------------------------------------------------------------


def _store(attribute: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """A callback that keeps a given value in the session; the verb's wins over the group's."""

    def callback(ctx: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value not in (None, False, 0, ()) and not ctx.resilient_parsing:
            session = ctx.ensure_object(Session)
            setattr(session, attribute, value)
            if attribute in ("verbose", "quiet", "log_json"):
                session.configure_log()

    return callback


def _set(ctx: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> None:
    if not ctx.resilient_parsing:
        ctx.ensure_object(Session).sets.extend(value)


def _setting(key: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """A callback for an option that is short for ``-s cluster.<key>=value``."""

    def callback(ctx: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value is not None and not ctx.resilient_parsing:
            ctx.ensure_object(Session).sets.append(f"cluster.{key}={value}")

    return callback


def _sizes(key: str) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], None]:
    """A callback for ``[ROLE|NODE=]NUMBER``; without a name it is for all Kubernetes nodes."""

    def callback(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> None:
        items = [item for text in value for item in text.split(",")]
        for item in items:
            name, equals, number = item.rpartition("=")
            if not number.isdecimal() or (equals and not name):
                raise click.BadParameter(f"{item!r} is not [ROLE|NODE=]NUMBER", ctx, parameter)
            names = [name] if name else ["control-plane", "worker"]
            if not ctx.resilient_parsing:
                sizes = ctx.ensure_object(Session).sizes.setdefault(key, [])
                sizes.extend(f"{one}={number}" for one in names)

    return callback


def cluster_option(function: Decorated) -> Decorated:
    """``--name CLUSTER`` and the `talk_options`; read them from the session."""
    return click.option(
        "--name", metavar="CLUSTER", expose_value=False, callback=_store("name"),
        shell_complete=complete_clusters,
        help=f"Which cluster  [env XK8S_NAME; default {DEFAULT_NAME}].",
    )(talk_options(function))  # fmt: skip


def talk_options(function: Decorated) -> Decorated:
    """``-v``, ``--quiet`` and ``--log-json``; read them from the session."""
    for option in reversed((
        click.option(
            "-v", "--verbose", count=True, expose_value=False, callback=_store("verbose"),
            help="Say more; -vv says all.",
        ),
        click.option(
            "-q", "--quiet", is_flag=True, expose_value=False, callback=_store("quiet"),
            help="No progress, only results and errors.",
        ),
        click.option(
            "--log-json", is_flag=True, expose_value=False, callback=_store("log_json"),
            help="Log lines as JSON.",
        ),
    )):  # fmt: skip
        function = option(function)
    return function


set_option = click.option(
    "-s", "--set", multiple=True, metavar="OVERLAY.KEY=VALUE", expose_value=False,
    callback=_set, help="A setting; may be given many times. See `xk8s explain`.",
)  # fmt: skip


def plan_options(function: Decorated) -> Decorated:
    """The options that decide what a plan becomes."""
    for option in reversed((
        set_option,
        click.option(
            "--config", metavar="FILE", expose_value=False,
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            callback=_store("config_file"), help="Settings file  [default: ./xk8s.toml].",
        ),
        click.option(
            "--nodes", metavar="N", expose_value=False, callback=_setting("nodes"),
            help="Kubernetes nodes: vm-001 and on.",
        ),
        click.option(
            "--routers", metavar="N", expose_value=False, callback=_setting("routers"),
            help="Routers: vm-201 and on.",
        ),
        click.option(
            "--testers", metavar="N", expose_value=False, callback=_setting("testers"),
            help="Testers outside of the cluster: vm-221 and on.",
        ),
        click.option(
            "--memory", metavar="[ROLE|NODE=]MIB", multiple=True, expose_value=False,
            callback=_sizes("memory"), help="Memory of a role, a node, or all Kubernetes nodes.",
        ),
        click.option(
            "--cpus", metavar="[ROLE|NODE=]N", multiple=True, expose_value=False,
            callback=_sizes("cpus"), help="CPUs, likewise.",
        ),
        click.option(
            "--ip-family", type=click.Choice(["ipv4", "ipv6", "dual"]), expose_value=False,
            callback=_setting("ip_family"), help="Of pods and services.",
        ),
        click.option(
            "--accel", type=click.Choice(["auto", "kvm", "tcg"]), expose_value=False,
            callback=_setting("accel"), help="How QEMU runs the VMs.",
        ),
    )):  # fmt: skip
        function = option(function)
    return function


json_option = click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")


# --- completion -------------------------------------------------------------------------


def complete_clusters(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of the clusters that are there."""
    from xk8s.cluster.record import list_clusters

    return [CompletionItem(name) for name in list_clusters() if name.startswith(incomplete)]


def complete_overlays(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of the installed overlays; local directories once it looks like a path."""
    from xk8s.registry import available

    if "/" in incomplete or incomplete.startswith((".", "~")):
        return [CompletionItem(incomplete, type="dir")]

    names = {one.name for one in available() if not one.refused}
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


def complete_nodes(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Nodes of the cluster that ``--name`` says."""
    from xk8s.cluster.record import read_record

    record = read_record(ctx.ensure_object(Session).name)
    nodes = record.nodes if record else ()
    return [CompletionItem(node.name) for node in nodes if node.name.startswith(incomplete)]
