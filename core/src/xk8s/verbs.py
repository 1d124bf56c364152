"""What the commands of overlays use: the session, the shared options, and how output looks.

Authors of commands (entry-point group ``xk8s.v1.commands``, value: a `click.Command`) use
`cluster_option` and `pass_session`::

    @click.command()
    @cluster_option
    @pass_session
    def command(session: Session) -> None:
        echo(session.cluster().name)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click
from click.shell_completion import CompletionItem

from xk8s.util.console_text import json_text, without_controls
from xk8s.util.log import PROGRESS, get_logger

if TYPE_CHECKING:
    from xk8s.context import ClusterAccess
    from xk8s.progress import Progress
    from xk8s.sources import Artifact

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

DEFAULT_NAME = "xk8s"


class KeyRotation(NamedTuple):
    """Result of `Session.rotate_keys`. Snapshots with the old keys: ``removed`` are those that `up`
    had saved (the next `up` would bring the old keys back), ``kept`` are the user's own.
    """

    cluster: ClusterAccess
    removed: tuple[str, ...]
    kept: tuple[str, ...]


class Session(ABC):
    """The options of one call of `xk8s`, and what a command can do with the cluster that
    they name.
    """

    # Neither attrs nor anything else that is slow to import: `xk8s --help` needs this class.

    def __init__(self, name: str = DEFAULT_NAME) -> None:
        """``name``: the cluster, unless an option names another one."""
        self.name = name
        self.verbose = 0
        self.quiet = False
        self.log_json = False

    @abstractmethod
    def cluster(self) -> ClusterAccess:
        """Return the running cluster that ``--name`` selects; raise `StateError` if there
        is none.
        """

    @abstractmethod
    def locked(self) -> AbstractContextManager[None]:
        """Keep every other command from changing the cluster for the length of a with block."""

    @abstractmethod
    def progress(self) -> AbstractContextManager[Progress]:
        """Draw progress on stderr: live on a terminal, plain lines elsewhere."""

    @abstractmethod
    def update_tags(self, artifacts: Iterable[Artifact], progress: Progress) -> bool:
        """Ask the registries what the image tags of ``artifacts`` refer to now. True if one has
        moved: artifacts with it have to be made again. `ArtifactError` if a registry does not
        answer; nothing has changed then.
        """

    @abstractmethod
    def rotate_keys(
        self, progress: Progress, *, renew: Callable[[ClusterAccess, Progress], None] | None = None
    ) -> KeyRotation:
        """Replace all keys of the running cluster and run its checks. ``renew`` is called once the
        nodes and the host have the new keys, for what is neither a file nor a unit.

        Raise `StateError` when there is no such cluster or it has no keys, `MachineError` when a
        node does not answer or a unit does not start, `CheckFailed`; a second call continues.
        """

    def remark(self, text: str) -> None:
        """Write a line other than a result to stderr; with `--log-json` as a log record."""
        if not self.log_json:
            echo(text, err=True)
        get_logger(PROGRESS).info("note", text=text)

    @abstractmethod
    def configure_log(self) -> None:
        """(Re)configure logging by the options read so far."""

    @abstractmethod
    def cluster_names(self) -> Sequence[str]:
        """Return the names of all clusters of this user."""

    @abstractmethod
    def node_names(self) -> Sequence[str]:
        """Return the names of the nodes of the cluster that ``--name`` selects."""


pass_session = click.make_pass_decorator(Session)  # type: ignore[type-abstract]


def current_session(ctx: click.Context) -> Session:
    """Return the session of a click context; every command of `xk8s` has one."""
    session = ctx.find_object(Session)  # type: ignore[type-abstract]
    assert session is not None, "a command of xk8s was called without its session"
    return session


# --- output -----------------------------------------------------------------------------


class ListingGroup(click.Group):
    """Group that runs ``list`` unless another subcommand is named: ``xk8s layers kubernetes`` is
    ``xk8s layers list kubernetes``.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as click does."""
        known = {*self.commands, *ctx.help_option_names}
        return super().parse_args(ctx, args if args and args[0] in known else ["list", *args])


def print_json(value: object) -> None:
    """Print JSON for programs on stdout, always the same for the same value."""
    click.echo(json_text(value, indent=2))


def echo(text: object = "", *, nl: bool = True, err: bool = False) -> None:
    """Print a line for people, on stdout or stderr. Control characters are taken out: whatever is
    shown may have been written by a guest.
    """
    click.echo(without_controls(str(text)), nl=nl, err=err)


def table(rows: Sequence[tuple[str, ...]]) -> None:
    """Format columns as wide as their widest cell; the last one is not padded."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for cells in rows:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        echo("  ".join(padded).rstrip())


# --- options ----------------------------------------------------------------------------


def store(attribute: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """Return a callback that stores a given value in the session; the verb's wins over the
    group's.
    """

    def callback(ctx: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value not in (None, False, 0, ()) and not ctx.resilient_parsing:
            session = current_session(ctx)
            setattr(session, attribute, value)
            if attribute in ("verbose", "quiet", "log_json"):
                session.configure_log()

    return callback


def cluster_option(function: Decorated) -> Decorated:
    """Add ``--name CLUSTER`` and the `talk_options`; read them from the session."""
    return click.option(
        "--name", metavar="CLUSTER", expose_value=False, callback=store("name"),
        shell_complete=complete_clusters,
        help=f"Which cluster  [env XK8S_NAME; default {DEFAULT_NAME}].",
    )(talk_options(function))  # fmt: skip


def talk_options(function: Decorated) -> Decorated:
    """Add ``-v``, ``--quiet`` and ``--log-json``; read them from the session."""
    for option in reversed((
        click.option(
            "-v", "--verbose", count=True, expose_value=False, callback=store("verbose"),
            help="Log programs, requests and cache misses; -vv logs all.",
        ),
        click.option(
            "-q", "--quiet", is_flag=True, expose_value=False, callback=store("quiet"),
            help="Results and errors only, no progress.",
        ),
        click.option(
            "--log-json", is_flag=True, expose_value=False, callback=store("log_json"),
            help="Logs, progress and errors as JSON, one object a line.",
        ),
    )):  # fmt: skip
        function = option(function)
    return function


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


# --- completion -------------------------------------------------------------------------


def complete_clusters(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """List the names of existing clusters."""
    return _starting(current_session(ctx).cluster_names(), incomplete)


def complete_nodes(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """List the nodes of the cluster that ``--name`` selects."""
    return _starting(current_session(ctx).node_names(), incomplete)


def _starting(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
