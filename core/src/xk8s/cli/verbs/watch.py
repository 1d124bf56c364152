"""xk8s watch."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xk8s.cli.session import CliSession, checks_options, complete_overlays, pass_session, set_option
from xk8s.verbs import cluster_option, echo

if TYPE_CHECKING:
    from xk8s.cluster.change.apply import Checks
    from xk8s.cluster.change.watched import WatchedSource


@click.command()
@click.argument("overlays", nargs=-1, shell_complete=complete_overlays)
@checks_options
@set_option
@cluster_option
@pass_session
def command(session: CliSession, overlays: tuple[str, ...], checks: Checks) -> None:
    """Run `xk8s apply` now, and again each time a source of OVERLAYS is saved.

    Without OVERLAYS, the sources of the whole cluster are watched: local directories, the files of
    overlays that are installed from a source tree, and directories among their settings (such as
    kubernetes.dir). One line reports each round. Ctrl-C ends it.
    """
    from xk8s.cluster.change.watched import marks, sources_of, wait_for_change

    words = ["apply", *overlays, "--json", "--quiet", "--name", session.name]
    words += {"none": ["--no-check"], "all": ["--all-checks"], "changed": []}[checks]
    words += [word for text in session.sets for word in ("--set", text)]
    # By another process each time: what is imported of an overlay stays what it was.
    argv = [sys.executable, "-m", "xk8s.cli", *words]
    try:
        seen = marks(sources_of(session.cluster().plan, ()))
        say("all", *round_of(argv))
        # A new overlay is known only behind the first round.
        sources = sources_of(session.cluster().plan, overlays)
        echo(f"watching {', '.join(str(source.path) for source in sources)} (Ctrl-C ends it)")
        before = {path: mark for path, mark in seen.items() if _is_in(path, sources)}
        before = {**marks(sources), **before}
        while True:
            before, changed = wait_for_change(sources, before)
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            say(f"{Path(changed[0]).name}{more}", *round_of(argv))
    except KeyboardInterrupt:
        echo()


def _is_in(path: str, sources: Iterable[WatchedSource]) -> bool:
    return any(path.startswith(f"{source.path}/") for source in sources)


def round_of(argv: list[str]) -> tuple[float, str]:
    """Return the seconds, and the result of the round."""
    start = time.monotonic()
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            out, err = child.communicate()
        except KeyboardInterrupt:
            try:
                child.wait(1)  # Ctrl-C interrupts both
            except subprocess.TimeoutExpired:
                child.terminate()
                child.wait()
            raise
    return time.monotonic() - start, summary(child.returncode, out, err)


def summary(code: int, out: str, err: str) -> str:
    """Return one line about a round."""
    if code:
        try:
            error = json.loads(err.strip().splitlines()[-1])["error"]
            text = error["message"] + (f" (do: {error['do']})" if error["do"] else "")
        except (ValueError, KeyError, IndexError, TypeError):
            text = err.strip()
        return f"failed, exit code {code}: {text}"
    done = json.loads(out)
    nodes = [node for node in done["nodes"] if node["files"] or node["restarted"] or node["layers"]]
    if not nodes:
        return "nothing to do"
    files = sum(len(node["files"]) for node in nodes)
    units = dict.fromkeys(unit for node in nodes for unit in node["restarted"])
    text = f"Ready: {files} files in {', '.join(node['node'] for node in nodes)}"
    return text + (f"; restarted {', '.join(units)}" if units else "")


def say(what: str, seconds: float, text: str) -> None:
    """Print the line of a round."""
    echo(f"{time.strftime('%H:%M:%S')} {what}: {text} ({seconds:.1f} s)")
