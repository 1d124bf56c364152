"""xk8s kubeconfig: show the cluster's kubeconfig, or merge it into the user's own file."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import click
from xk8s.errors import StateError
from xk8s.verbs import (
    Session,
    cluster_option,
    echo,
    pass_session,
)

if TYPE_CHECKING:
    from xk8s_kubernetes.kubeconfig_file import Outcome

FILE = "kubeconfig"


@click.command(short_help="Print, merge or remove the cluster's kubeconfig.")
@click.option("--merge", is_flag=True, help="Add it to FILE and make it current.")
@click.option("--remove", is_flag=True, help="Remove it from FILE.")
@click.option("--path", is_flag=True, help="Print the path of the cluster's own file.")
@click.option(
    "--use/--no-use", default=True, help="With --merge: make its context the current one."
)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@cluster_option
@pass_session
def command(session: Session, /, use: bool, file: Path | None, **actions: bool) -> None:
    """Print the kubeconfig of the cluster, for kubectl on this machine.

    With --merge or --remove, FILE (default: the file of $KUBECONFIG that kubectl would write to, or
    ~/.kube/config) is changed in one step under kubectl's own lock. Everything that does not belong
    to the cluster stays unchanged; the previous content is in FILE.xk8s-backup. --remove also works
    after `down`.
    """
    chosen = [name for name, is_given in actions.items() if is_given]
    if len(chosen) > 1:
        raise click.UsageError(f"--{' and --'.join(chosen)} cannot be used together")
    action = chosen[0] if chosen else None
    if action in (None, "path"):
        if file is not None:
            raise click.UsageError("FILE needs --merge or --remove")
        path = own_file(session)
        echo(path if action else path.read_text(), nl=action is not None)
    elif action == "merge":
        _merge(session, file, use=use)
    else:
        _remove(session, file)


def context_name(cluster: str) -> str:
    """Return the cluster's name in kubeconfigs."""
    return f"xk8s-{cluster}"


def own_file(session: Session) -> Path:
    """Return the kubeconfig that `up` wrote; `StateError` if the cluster has none."""
    path = session.cluster().state_dir / FILE
    if not path.exists():
        raise StateError(
            f"cluster {session.name!r} has no kubeconfig",
            where=str(path),
            hint="it is written when its VMs are started, by the overlay kubernetes",
        )
    return path


# --- which file -------------------------------------------------------------------------


def user_files() -> list[Path]:
    """Return the files that kubectl reads, in its order."""
    named = os.environ.get("KUBECONFIG", "").split(os.pathsep)
    return list(dict.fromkeys(Path(name) for name in named if name)) or [
        Path.home() / ".kube" / "config"
    ]


def default_file() -> Path:
    """Return the file to which kubectl itself would write something new."""
    files = user_files()
    return next((path for path in files if path.exists()), files[-1])


def files_with(context: str) -> list[Path]:
    """Return those of kubectl's files that have that context."""
    from xk8s_kubernetes.kubeconfig_edit import contexts
    from xk8s_kubernetes.kubeconfig_file import read, refused
    from xk8s_kubernetes.kubeconfig_nodes import NotKubeconfig

    found = []
    for path in user_files():
        try:
            if context in contexts(read(path)):
                found.append(path)
        except NotKubeconfig as error:
            raise refused(path, str(error)) from error
    return found


# --- the changes ------------------------------------------------------------------------


def _merge(session: Session, file: Path | None, *, use: bool) -> None:
    import yaml

    from xk8s_kubernetes.kubeconfig_edit import current, merged
    from xk8s_kubernetes.kubeconfig_file import edit, read

    new = yaml.safe_load(own_file(session).read_text())
    context = context_name(session.name)
    # In the file that has it already: a second one elsewhere would be hidden by it, or hide it.
    target = file or next(iter(files_with(context)), None) or default_file()
    outcome = edit(target, lambda old: merged(old, new, use=use), own=_users_part)
    _say(session, target, outcome, f"has context {context} now", f"has context {context} already")
    if (mode := stat.S_IMODE(target.stat().st_mode)) & 0o077:
        session.remark(
            f"{target}: it holds the key of the cluster's administrator, and its mode {mode:04o}"
            f" gives other users access; make it private: chmod 600 {shlex.quote(str(target))}"
        )
    if file is None and use and not session.quiet:
        for other in user_files()[: user_files().index(target)]:
            if name := current(read(other)):
                session.remark(
                    f"{other}: its current-context {name} comes first; use kubectl"
                    f" --context {context}"
                )


def _remove(session: Session, file: Path | None) -> None:
    from xk8s_kubernetes.kubeconfig_edit import without
    from xk8s_kubernetes.kubeconfig_file import edit

    context = context_name(session.name)
    for target in [file] if file else files_with(context) or [default_file()]:
        outcome = edit(target, lambda old: without(old, context), own=_users_part)
        none = f"has no context {context}"
        _say(session, target, outcome, f"{none} any more", none)


def _say(session: Session, target: Path, outcome: Outcome, changed: str, unchanged: str) -> None:
    if session.quiet:
        return
    was = f"; previous content: {outcome.backup}" if outcome.backup else ""
    text = f"{changed}{was}" if outcome.changed else unchanged
    session.remark(f"{target}: {text}")


def _users_part(text: str) -> str:
    """Return the text without what was merged into it, for any cluster."""
    from xk8s_kubernetes.kubeconfig_edit import ours, without

    for name in reversed(ours(text)):  # each knows what was before it
        text = without(text, name)
    return text
