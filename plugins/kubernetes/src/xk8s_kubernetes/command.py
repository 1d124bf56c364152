"""xk8s kubeconfig: show the cluster's kubeconfig, or merge it into the user's own file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from xk8s.cli.session import Session, cluster_option, pass_session
from xk8s.errors import StateError, UsageError

LISTS = ("clusters", "users", "contexts")
FILE = "kubeconfig"
LOCK_SECONDS = 10.0
BACKUP_SUFFIX = ".xk8s-backup"

Config = dict[str, Any]


@click.command(short_help="Print, merge or remove the cluster's kubeconfig.")
@click.option("--merge", "action", flag_value="merge", help="Add it to FILE and make it current.")
@click.option("--remove", "action", flag_value="remove", help="Take it out of FILE again.")
@click.option("--path", "action", flag_value="path", help="Print where the cluster's own one is.")
@click.option(
    "--use/--no-use", default=True, help="With --merge: make its context the current one."
)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@cluster_option
@pass_session
def command(session: Session, action: str | None, use: bool, file: Path | None) -> None:
    """Print the kubeconfig of the cluster, for kubectl on this machine.

    With --merge or --remove, FILE (default: the first of $KUBECONFIG, or ~/.kube/config) is
    changed in one step under kubectl's own lock; how it was before stays in FILE.xk8s-backup.
    """
    if action in (None, "path"):
        if file is not None:
            raise click.UsageError("FILE needs --merge or --remove")
        path = own_file(session)
        click.echo(path if action else path.read_text(), nl=action is not None)
        return
    target = file or default_file()
    if action == "merge":
        changed = edit(target, lambda old: merged(old, load(own_file(session)), use=use))
    else:
        changed = edit(target, lambda old: without(old, f"xk8s-{session.name}"))
    if not session.quiet:
        text = f"changed; as it was: {target}{BACKUP_SUFFIX}" if changed else "already so"
        click.echo(f"{target}: {text}", err=True)


def own_file(session: Session) -> Path:
    """The kubeconfig that `up` wrote; `StateError` when the cluster has none."""
    path = session.cluster().state_dir / FILE
    if not path.exists():
        raise StateError(
            f"cluster {session.name!r} has no kubeconfig",
            where=str(path),
            hint="it has none before its VMs are started, and none without overlay kubernetes",
        )
    return path


def default_file() -> Path:
    """The file that kubectl itself would write to."""
    first = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    return Path(first) if first else Path.home() / ".kube" / "config"


# --- pure changes -----------------------------------------------------------------------


def merged(old: Config, new: Config, *, use: bool = True) -> Config:
    """``old`` with the entries of ``new`` in place of those of the same names."""
    result: Config = {"apiVersion": "v1", "kind": "Config", **old}
    for key in LISTS:
        given = {entry["name"]: entry for entry in new[key]}
        kept = [given.pop(entry.get("name"), entry) for entry in _entries(old, key)]
        result[key] = kept + list(given.values())
    if use or not old.get("current-context"):
        result["current-context"] = new["current-context"]
    return result


def without(old: Config, context: str) -> Config:
    """``old`` without that context, its cluster, and its user unless others use them."""
    result = dict(old)
    gone = [
        one.get("context") or {} for one in _entries(old, "contexts") if one.get("name") == context
    ]
    rest = [one for one in _entries(old, "contexts") if one.get("name") != context]
    if not gone:
        return result
    result["contexts"] = rest
    for key, field in (("clusters", "cluster"), ("users", "user")):
        used = {(one.get("context") or {}).get(field) for one in rest}
        names = {one.get(field) for one in gone} - used
        result[key] = [one for one in _entries(old, key) if one.get("name") not in names]
    if old.get("current-context") == context:
        result["current-context"] = ""
    return result


def _entries(config: Config, key: str) -> list[Config]:
    return list(config.get(key) or [])


# --- the file ---------------------------------------------------------------------------


def load(path: Path) -> Config:
    """A kubeconfig; {} for a file that is not there or empty. `UsageError` for anything else
    than a kubeconfig: such a file is never written to.
    """
    import yaml

    try:
        data = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _not_a_kubeconfig(path, str(error)) from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise _not_a_kubeconfig(path, "it is no mapping")
    for key in LISTS:
        entries = data.get(key) or []
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            raise _not_a_kubeconfig(path, f"{key} is no list of mappings")
    return data


def edit(path: Path, change: Any) -> bool:
    """Replace the file by ``change`` (a function of its content) of it, locked and in one step.
    A symbolic link stays one: its target is replaced. False when nothing had to change.
    """
    import yaml

    target = path.resolve()
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(target):
        old = load(target)
        new = change(old)
        if new == old:
            return False
        mode = 0o600
        if target.exists():
            mode = target.stat().st_mode & 0o777
            shutil.copy2(target, f"{target}{BACKUP_SUFFIX}")
        text = yaml.safe_dump(new, sort_keys=False, allow_unicode=True, width=1 << 16)
        temporary = target.with_name(f".{target.name}.xk8s-{os.getpid()}")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold FILE.lock, made exclusively, which is how kubectl locks the same file."""
    import time

    lock = path.with_name(path.name + ".lock")
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL, 0o600))
            break
        except FileExistsError:
            if time.monotonic() > deadline:
                raise StateError(
                    f"{path} is locked by another program",
                    where=str(lock),
                    hint=f"if no kubectl or xk8s is at work on it: rm {lock}",
                ) from None
            time.sleep(0.05)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _not_a_kubeconfig(path: Path, why: str) -> UsageError:
    return UsageError(
        f"not a kubeconfig, left as it is: {why}",
        where=str(path),
        hint="mend it, or name another FILE",
    )
