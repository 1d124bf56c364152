"""The session of the core's own verbs, and the options that decide what a plan becomes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from xk8s.errors import UsageError
from xk8s.verbs import DEFAULT_NAME, Decorated, KeyRotation, Session, current_session, store

if TYPE_CHECKING:
    from xk8s.cluster.handle import Cluster
    from xk8s.context import ClusterAccess
    from xk8s.names.request import Request
    from xk8s.progress import Progress
    from xk8s.sources import Artifact


class CliSession(Session):
    """One call of `xk8s`. Imports what it needs when it needs it: `--help` needs none of it."""

    def __init__(self, name: str = DEFAULT_NAME) -> None:
        """``name``: the cluster, unless an option names another one."""
        super().__init__(name)
        self.sets: list[str] = []
        self.sizes: dict[str, list[str]] = {}
        self.config_file: Path | None = None

    def request(self, overlays: tuple[str, ...]) -> Request:
        """Return what the plan is made from."""
        from xk8s.names.request import Request

        sizes = [f"cluster.{name}={','.join(items)}" for name, items in self.sizes.items()]
        return Request(
            overlays=overlays,
            name=self.name,
            sets=(*self.sets, *sizes),
            config_file=self.config_file,
        )

    def cluster(self) -> Cluster:
        """Return the running cluster that ``--name`` selects."""
        from xk8s.cluster.handle import open_cluster

        return open_cluster(self.name)

    def cluster_as_it_is(self) -> Cluster:
        """Return the same, whatever a killed command left half done to it."""
        from xk8s.cluster.handle import open_cluster

        return open_cluster(self.name, resume=False)

    def locked(self) -> AbstractContextManager[None]:
        """Lock the cluster's state."""
        from xk8s.cluster.state.record import locked

        return locked(self.name)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Draw progress on stderr, or only log it if everything on stderr must be JSON."""
        from xk8s.cli.progress import Recorded, renderer

        with renderer(quiet=self.quiet or self.log_json) as progress:
            yield Recorded(progress)

    def update_tags(self, artifacts: Iterable[Artifact], progress: Progress) -> bool:
        """Ask the registries, and remember the digests."""
        from xk8s.build.artifacts.store import Store
        from xk8s.build.artifacts.tags import update
        from xk8s.util.paths import cache_dir

        return update(artifacts, Store(cache_dir()), progress)

    def rotate_keys(
        self, progress: Progress, *, renew: Callable[[ClusterAccess, Progress], None] | None = None
    ) -> KeyRotation:
        """Replace the keys under the cluster's lock."""
        from xk8s.cluster.change.rotate_keys import rotate_keys

        return rotate_keys(self.name, progress, renew=renew)

    def configure_log(self) -> None:
        """(Re)configure logging by the options read so far."""
        from xk8s.cli.log import configure

        configure(verbose=self.verbose, quiet=self.quiet, as_json=self.log_json)

    def cluster_names(self) -> Sequence[str]:
        """Return the names of the state directories."""
        from xk8s.cluster.state.record import list_clusters

        return list_clusters()

    def node_names(self) -> Sequence[str]:
        """Return the nodes of the cluster's record."""
        from xk8s.cluster.state.record import readable_record

        record = readable_record(self.name)
        return [node.name for node in record.nodes] if record else []


pass_session = click.make_pass_decorator(CliSession)


def _session(ctx: click.Context) -> CliSession:
    session = current_session(ctx)
    assert isinstance(session, CliSession)
    return session


# --- options ----------------------------------------------------------------------------


def _set(ctx: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> None:
    if not ctx.resilient_parsing:
        _session(ctx).sets.extend(value)


def _setting(key: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """Return a callback for an option that is short for ``-s cluster.<key>=value``."""

    def callback(ctx: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value is not None and not ctx.resilient_parsing:
            _session(ctx).sets.append(f"cluster.{key}={value}")

    return callback


def _sizes(key: str) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], None]:
    """Return a callback for ``[ROLE|NODE=]NUMBER``; without a name it applies to all Kubernetes
    nodes.
    """

    def callback(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> None:
        items = [item for text in value for item in text.split(",")]
        for item in items:
            name, equals, number = item.rpartition("=")
            if not number.isdecimal() or (equals and not name):
                raise click.BadParameter(f"{item!r} is not [ROLE|NODE=]NUMBER", ctx, parameter)
            names = [name] if name else ["control-plane", "worker"]
            if not ctx.resilient_parsing:
                sizes = _session(ctx).sizes.setdefault(key, [])
                sizes.extend(f"{name}={number}" for name in names)

    return callback


set_option = click.option(
    "-s", "--set", multiple=True, metavar="OVERLAY.KEY=VALUE", expose_value=False,
    callback=_set, help="A setting; may be repeated. See `xk8s explain`.",
)  # fmt: skip


def plan_options(function: Decorated) -> Decorated:
    """Add the options that decide what a plan becomes."""
    for option in reversed((
        set_option,
        click.option(
            "--config", metavar="FILE", expose_value=False,
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            callback=store("config_file"), help="Settings file  [default: ./xk8s.toml].",
        ),
        click.option(
            "--nodes", metavar="N", expose_value=False, callback=_setting("nodes"),
            help="Number of Kubernetes nodes, from vm-001.",
        ),
        click.option(
            "--routers", metavar="N", expose_value=False, callback=_setting("routers"),
            help="Number of routers, from vm-201.",
        ),
        click.option(
            "--testers", metavar="N", expose_value=False, callback=_setting("testers"),
            help="Number of testers outside of the cluster, from vm-221.",
        ),
        click.option(
            "--memory", metavar="[ROLE|NODE=]MIB", multiple=True, expose_value=False,
            callback=_sizes("memory"), help="MiB for a role, a node, or all Kubernetes nodes.",
        ),
        click.option(
            "--cpus", metavar="[ROLE|NODE=]N", multiple=True, expose_value=False,
            callback=_sizes("cpus"), help="CPUs for a role, a node, or all Kubernetes nodes.",
        ),
        click.option(
            "--ip-family", type=click.Choice(["ipv4", "ipv6", "dual"]), expose_value=False,
            callback=_setting("ip_family"), help="IP families of pods and Services.",
        ),
        click.option(
            "--accel", type=click.Choice(["auto", "kvm", "tcg"]), expose_value=False,
            callback=_setting("accel"), help="How QEMU runs the VMs.",
        ),
    )):  # fmt: skip
        function = option(function)
    return function


def checks_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add ``--all-checks`` and ``--no-check``, passed as ``checks``: "all", "none" or "changed"."""

    @click.option(
        "--all-checks", is_flag=True, help="Run all checks, not only those of changed overlays."
    )
    @click.option("--no-check", is_flag=True, help="Skip the checks.")
    @functools.wraps(function)
    def with_checks(*args: Any, all_checks: bool, no_check: bool, **more: Any) -> None:
        if all_checks and no_check:
            raise UsageError(
                "--all-checks and --no-check are opposites", hint="leave one of them out"
            )
        checks = "all" if all_checks else "none" if no_check else "changed"
        function(*args, checks=checks, **more)

    return with_checks


dry_run_option = click.option("--dry-run", is_flag=True, help="Only show what would be removed.")


# --- completion -------------------------------------------------------------------------


def complete_overlays(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the names of installed overlays; local directories once it looks like a path."""
    from xk8s.names.registry import available

    if "/" in incomplete or incomplete.startswith((".", "~")):
        return [CompletionItem(incomplete, type="dir")]

    names = {offer.name for offer in available() if not offer.refused}
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]
