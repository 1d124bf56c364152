"""The group of all verbs. Listing them imports none of them; each is imported when it is run."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint

import click
from click.shell_completion import CompletionItem, shell_complete

from xk8s.cli.errors import report
from xk8s.cli.session import CliSession
from xk8s.cli.signals import handle_signals
from xk8s.cli.streams import open_closed_streams
from xk8s.errors import PluginError, UsageError, nearest
from xk8s.names.allow_list import careful_policy
from xk8s.names.call import guarded
from xk8s.names.discovery import COMMANDS_GROUP, Offer, by_name, offered, refusal
from xk8s.verbs import DEFAULT_NAME, cluster_option, echo

VERBS: Mapping[str, str] = {
    "up": "Start a cluster from overlays and check it.",
    "apply": "Apply changed or new overlays to a running cluster.",
    "scale": "Add nodes to or remove them from a running cluster.",
    "watch": "Apply overlays each time their sources are saved.",
    "down": "Shut down a cluster, leaving nothing behind.",
    "status": "Show nodes, addresses, forwards and memory.",
    "exec": "Run a command on a node, even if its networks are broken.",
    "cp": "Copy files and directories to and from a node.",
    "ssh": "Log in to a node by SSH, without any network.",
    "ssh-config": "Print what ssh, scp, rsync, Ansible and editors need to reach nodes.",
    "shell": "Open a root shell on a node.",
    "console": "Attach to the kernel console of a node.",
    "logs": "Show logs of nodes, units and pods.",
    "check": "Run the overlays' checks again, or search for known faults.",
    "report": "Create an archive with everything needed for troubleshooting.",
    "node": "Break and repair nodes: pause, resume, kill, start, reboot.",
    "net": "Break and watch the networks: link, tcpdump, exec.",
    "snapshot": "Save and restore running clusters.",
    "reset": "Restore a cluster's last snapshot.",
    "plan": "Show what `up` would do, without doing it.",
    "overlays": "List the installed overlays.",
    "new": "Create a new overlay: a distribution with passing tests.",
    "explain": "Explain a setting: meaning, default, value and origin.",
    "trust": "Let the settings file of this directory set everything.",
    "layers": "Show layer images and their content, and remove unused ones.",
    "cache": "Show what uses disk space, and free some.",
    "artifacts": "Show where each downloaded or built file came from.",
    "doctor": "Show what this machine has and lacks.",
}
"""Verb -> one line of help, in the order of help. The module is xk8s.cli.verbs.<verb>, with _
for -."""


class Verbs(click.Group):
    """Group of the core's verbs by module name and of overlays' verbs by entry point."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """List all verbs, those of overlays last; imports nothing."""
        return [*VERBS, *sorted({*plugin_commands()} - {*VERBS})]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        """Return the verb, imported now, or None if there is no verb of that name."""
        if name in VERBS:
            module = import_module(f"xk8s.cli.verbs.{name.replace('-', '_')}")
            command: click.Command = module.command
            command.short_help = VERBS[name]
            return command
        offer = plugin_commands().get(name)
        return None if offer is None else load_command(offer)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve as click does, with the closest verb in the error."""
        name = args[0]
        if name not in VERBS and name not in plugin_commands() and not name.startswith("-"):
            raise UsageError(
                f"there is no verb {name!r}",
                hint=f"{nearest(name, self.list_commands(ctx))}`xk8s --help` lists them",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of verbs, from what is known without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))
        added = plugin_commands()
        if added:
            with formatter.section("Verbs of overlays"):
                formatter.write_dl([(name, origin(added[name])) for name in sorted(added)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete verbs with their help, without importing them; then the group's options."""
        found = [
            CompletionItem(name, help=VERBS.get(name))
            for name in self.list_commands(ctx)
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)


@functools.cache
def plugin_commands() -> Mapping[str, Offer]:
    """Return the verbs that installed distributions add, including refused ones; imports none."""
    return by_name(offered(COMMANDS_GROUP, careful_policy()))


def origin(offer: Offer) -> str:
    """Say who adds a verb, or why nobody does."""
    if offer.refused:
        return f"{'Denied' if offer.denied else 'Refused'}: {offer.refused}."
    return f"From {offer.origin}."


def load_command(offer: Offer) -> click.Command:
    """Import an overlay's command; `PluginError` names the distribution that broke it."""
    if offer.refused:
        raise refusal(offer)
    what = f"the verb {offer.name!r}"
    command: object = guarded(
        EntryPoint(offer.name, offer.value, COMMANDS_GROUP).load,
        offer=offer,
        what=what,
        doing="",
        limit=careful_policy().timeout,
    )
    if not isinstance(command, click.Command):
        raise PluginError(f"{what} must be a click.Command, not {command!r:.60}", where=offer.where)
    return command


def _version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        echo(f"xk8s {version('xk8s')}")
        ctx.exit()


@click.command(
    "xk8s",
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start here: xk8s up kubernetes coredns externalip",
)
@cluster_option
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version,
    help="Show the version.",
)  # fmt: skip
@click.pass_context
def xk8s(ctx: click.Context) -> None:
    """Real Kubernetes clusters of QEMU VMs, made of overlays, on one machine, without root."""
    ctx.ensure_object(CliSession).configure_log()


def run(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit code (see docs/reference/exit-codes.md)."""
    open_closed_streams()
    handle_signals()
    session = CliSession(name=os.environ.get("XK8S_NAME") or DEFAULT_NAME)
    before_dashes = [*argv, "--"][: [*argv, "--"].index("--")]
    try:
        if instruction := os.environ.get("_XK8S_COMPLETE"):
            return shell_complete(xk8s, {"obj": session}, "xk8s", "_XK8S_COMPLETE", instruction)
        # Not xk8s.main(): it prints a newline at Ctrl-C and makes a closed pipe exit 1.
        with xk8s.make_context("xk8s", list(argv), obj=session) as ctx:
            xk8s.invoke(ctx)
        sys.stdout.flush()
    except BaseException as error:  # the one place where errors are shown
        return report(error, as_json=not {"--json", "--log-json"}.isdisjoint(before_dashes))
    return 0
