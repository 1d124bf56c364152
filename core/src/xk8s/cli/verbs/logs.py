"""xk8s logs."""

from __future__ import annotations

import re
import time
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

import click
from attrs import field, frozen
from click.shell_completion import CompletionItem

from xk8s.cli.session import CliSession, pass_session
from xk8s.errors import Interrupted, StateError, UsageError, Xk8sError
from xk8s.util.units import parse_duration
from xk8s.verbs import cluster_option, complete_nodes, echo

if TYPE_CHECKING:
    from xk8s.cluster.checks.logs import LogSource
    from xk8s.cluster.handle import Cluster

CONSOLE, QEMU = "console", "qemu"
LINES = 200
_POLL_SECONDS = 1.0


@frozen(kw_only=True)
class Wish:
    """The meaning of the command line's arguments."""

    nodes: tuple[str, ...]
    components: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    """Paths in the guest, and KIND/NAME."""
    host: tuple[str, ...] = field(factory=tuple)
    """Files of the host: console, qemu."""
    every: bool = False
    """All nodes are meant, whichever there are."""


def complete_words(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete nodes, and the services of the first control plane."""
    found = complete_nodes(ctx, parameter, incomplete)
    try:
        from xk8s.cluster.checks.logs import units

        cluster = ctx.ensure_object(CliSession).cluster()
        names = [CONSOLE, QEMU, *units(cluster, default_node(cluster))]
    except (Xk8sError, TimeoutError):
        return found
    return found + [CompletionItem(name) for name in names if name.startswith(incomplete)]


@click.command()
@click.argument(
    "words", nargs=-1, metavar="[NODE]... [COMPONENT]...", shell_complete=complete_words
)
@click.option("-f", "--follow", is_flag=True, help="Follow the logs; Ctrl-C ends.")
@click.option("-n", "--lines", type=click.IntRange(0), metavar="N",
              help=f"The last N lines of each  [default: {LINES}; with --since all].")  # fmt: skip
@click.option(
    "--since",
    default="",
    metavar="TIME",
    help="Lines not older than 30s, 5m, 2h, 7d, 2w or a date.",
)
@click.option("-g", "--grep", default="", metavar="REGEX",
              help="Only lines that match; a lower-case pattern ignores case.")  # fmt: skip
@click.option("-A", "--all-nodes", is_flag=True, help="Logs of all nodes, merged by time.")
@click.option("-c", "--container", default="", metavar="NAME", help="Only this container of a pod.")
@cluster_option
@pass_session
def command(
    session: CliSession,
    words: tuple[str, ...],
    follow: bool,
    lines: int | None,
    since: str,
    grep: str,
    all_nodes: bool,
    container: str,
) -> None:
    """Show the journal of NODE (the control plane by default), or of COMPONENT on it.

    COMPONENT is a systemd unit (kubelet, etcd, …; "apiserver" is enough for kube-apiserver);
    "console" for the output of the kernel and init, or "qemu" for that of QEMU: these exist even if
    the VM does not; an absolute path of a file in the guest; or, if an overlay supports it,
    KIND/NAME: "pod/coredns" shows the output of that pod's containers, and needs no API server.
    """
    from xk8s.cluster.absent import absence_text

    cluster = session.cluster()
    wish = understood(cluster, words, all_nodes=all_nodes)
    if lines is None and not since:
        lines = LINES
    # Nobody asked for one of them in particular: the others are shown.
    silent = cluster.absent if wish.every else {}
    for node, absence in silent.items():
        session.remark(f"no logs: {absence_text(cluster.name, node, absence)}")
    sources = sources_of(cluster, wish, silent=silent, lines=lines, since=since,
                         grep=grep, container=container)  # fmt: skip
    # journalctl greps by itself, and counts the lines that match.
    try:
        show(sources, follow=follow, grep=grep)
    except KeyboardInterrupt:
        if not follow:
            raise
        raise click.exceptions.Exit(Interrupted.exit_code) from None  # the usual end: no message


def default_node(cluster: Cluster) -> str:
    """Return the first control plane, or the first node of any kind."""
    first = [node.name for node in cluster.record.nodes if node.role == "control-plane"]
    names = [node.name for node in cluster.record.nodes]
    if not names:
        raise StateError(f"cluster {cluster.name!r} has no nodes yet", hint="xk8s down")
    return (first or names)[0]


def understood(cluster: Cluster, words: Sequence[str], *, all_nodes: bool) -> Wish:
    """Sort arguments into nodes, by their names, and components. `StateError` for an
    unknown node.
    """
    names = [node.name for node in cluster.record.nodes]
    nodes = [word for word in words if word in names]
    rest = [word for word in words if word not in names]
    for word in rest:
        if re.fullmatch(r"vm-\d+", word):
            cluster.record.node(word)  # raises, and names the existing ones
    files = tuple(word for word in rest if "/" in word)
    if all_nodes and nodes:
        raise click.UsageError("--all-nodes needs no NODE")
    every = all_nodes or bool(files and not nodes and not files[0].startswith("/"))
    if every:
        nodes = names  # where a pod runs is not the user's business
    return Wish(
        nodes=tuple(dict.fromkeys(nodes or [default_node(cluster)])),
        components=tuple(word for word in rest if "/" not in word and word not in (CONSOLE, QEMU)),
        files=files,
        host=tuple(word for word in rest if word in (CONSOLE, QEMU)),
        every=every,
    )


def sources_of(
    cluster: Cluster,
    wish: Wish,
    *,
    silent: Container[str] = (),
    lines: int | None,
    since: str,
    grep: str,
    container: str,
) -> list[LogSource]:
    """Return the selected logs; of ``silent`` nodes those alone that the host has."""
    from xk8s.cluster.checks.logs import GuestFiles, HostFile, Journal
    from xk8s.cluster.state.node_paths import qemu_log

    if container and not wish.files:
        raise click.UsageError("-c needs a pod")
    if since and (wish.host or any(file.startswith("/") for file in wish.files)):
        raise click.UsageError("--since: the lines of such a file have no time")
    several = len(wish.nodes) > 1
    sources: list[LogSource] = []
    for node in wish.nodes:
        for name in wish.host:
            path = cluster.console_log(node)
            path = qemu_log(path) if name == QEMU else path
            sources.append(HostFile(title=f"{node}: {name}", path=path, lines=lines))
        if node in silent:
            continue
        for file in wish.files:
            find = find_argv(cluster, node, file, container)
            if find:
                start = started(since) if since else ""
                sources.append(GuestFiles(cluster=cluster, node=node, find=find, lines=lines,
                                          since=start))  # fmt: skip
        if wish.components or not (wish.host or wish.files):
            sources.append(
                Journal(
                    cluster=cluster, node=node, units=wish.components, lines=lines, since=since,
                    grep=grep, dated=several, output="short-iso-precise" if several else "short",
                )
            )  # fmt: skip
    return sources


def find_argv(cluster: Cluster, node: str, file: str, container: str) -> list[str]:
    """Return the command that prints which files of the node are selected; [] if that node has
    none. `UsageError` for a kind that no overlay knows.
    """
    if file.startswith("/"):
        return ["find", file, "-maxdepth", "0"]
    kind, _, rest = file.partition("/")
    scope, _, name = rest.rpartition("/")
    plan = cluster.plan
    known = [
        log_file
        for overlay in plan.ctx.overlays
        for log_file in plan.registry.hooks.log_files(overlay, plan.ctx)
    ]
    wanted = [log_file for log_file in known if log_file.kind == kind]
    if not wanted:
        kinds = ", ".join(sorted({f"{log_file.kind}/NAME" for log_file in known})) or "none"
        raise UsageError(f"no overlay knows logs of a {kind!r}", hint=f"kinds are: {kinds}")
    argv: list[str] = []
    for log_file in wanted:
        if cluster.record.node(node).role not in log_file.roles:
            continue
        words = {"scope": scope or "*", "name": name, "part": container or "*"}
        patterns = [path.format_map(words) for path in log_file.paths]
        tests = [word for pattern in patterns for word in ("-o", "-path", pattern)][1:]
        argv = ["find", log_file.directory, "-type", "f", "(", *tests, ")"]
    return argv


def started(since: str) -> str:
    """Return the time that ``--since`` means, in the form of lines of containers (ISO 8601,
    UTC).
    """
    seconds = parse_duration(since)
    if seconds is None:
        if re.match(r"\d{4}-\d\d-\d\d", since):
            return since.replace(" ", "T")
        raise UsageError(
            f"--since {since!r} is not a time", hint="use 30s, 5m, 2h, 7d, 2w, or 2026-11-23"
        )
    then = time.time() - seconds
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(then))


def show(sources: Sequence[LogSource], *, follow: bool, grep: str) -> None:
    """Print the logs and, with ``follow``, new lines. A log that one node lacks is an error only if
    no other node has it.
    """
    from xk8s.cluster.checks.logs import GuestFiles, NoUnitError

    texts: list[tuple[LogSource, str]] = []
    lacking: NoUnitError | None = None
    for source in sources:
        try:
            texts.append((source, source.first()))
        except NoUnitError as error:
            lacking = error
    if lacking is not None and not texts:
        raise lacking
    files = [source for source, _ in texts if isinstance(source, GuestFiles)]
    if files and len(files) == len(texts) and not any(file.paths() for file in files):
        raise UsageError("there is no such log", hint="see `xk8s exec NODE -- find /var/log`")
    display(texts, grep)
    while follow:
        time.sleep(_POLL_SECONDS)
        display([(source, source.more()) for source, _ in texts], grep)


def display(texts: Sequence[tuple[LogSource, str]], grep: str) -> None:
    """Print dated logs merged by time, others one after the other, with titles if there are
    several.
    """
    from xk8s.cluster.checks.logs import Journal, matcher, mixed

    dated = [text for source, text in texts if source.dated]
    echo(mixed(dated), nl=False)
    rest = [(source, text) for source, text in texts if not source.dated]
    for source, text in rest:
        if grep and not isinstance(source, Journal):
            matches = matcher(grep)
            text = "".join(
                line for line in text.splitlines(keepends=True)
                if line.startswith("==> ") or matches(line)
            )  # fmt: skip
        if text and len(rest) > 1 and not text.startswith("==> "):
            echo(f"==> {source.title} <==")
        echo(text, nl=bool(text) and not text.endswith("\n"))
