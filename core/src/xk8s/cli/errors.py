"""The one place where errors become text and exit codes."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from xk8s.errors import HostError, Interrupted, UsageError, Xk8sError
from xk8s.util.console_text import json_text, without_controls
from xk8s.util.lines import cut_line

EXIT_UNEXPECTED = 70
"""Exit code for a bug of xk8s (EX_SOFTWARE): the traceback is in a file that the message names."""
_KEPT_TRACEBACKS = 10
MAX_SHOWN = 2000
"""Characters of a line of a log that an error shows."""
EXIT_PIPE = 141
"""Exit code if whoever read our output went away (128 + SIGPIPE)."""


def report(error: BaseException, *, as_json: bool = False) -> int:
    """Show an error on stderr; return its exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, click.exceptions.Exit):
        return int(error.exit_code)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        if as_json:
            path = error.ctx.command_path if error.ctx else "xk8s"
            return report(UsageError("a verb is missing", hint=f"{path} --help"), as_json=True)
        click.echo(error.format_message(), err=True)
        return UsageError.exit_code
    if isinstance(error, BrokenPipeError):
        # Python would fail again when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    known = understand(error)
    if known is None:
        known, code = unexpected(error), EXIT_UNEXPECTED
    else:
        code = known.exit_code
    print(as_text(known, code, as_json=as_json), file=sys.stderr)
    return code


def understand(error: BaseException) -> Xk8sError | None:
    """Return the error as one of the family, or None if it is a bug."""
    if isinstance(error, Xk8sError):
        return error
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return Interrupted("interrupted")
    if isinstance(error, click.ClickException):
        command = getattr(error, "ctx", None)
        path = command.command_path if command else "xk8s"
        return UsageError(error.format_message().rstrip("."), hint=f"{path} --help")
    return _disk_error(error) if isinstance(error, OSError) else None


def _disk_error(error: OSError) -> Xk8sError | None:
    from xk8s.util.disk_full import disk_error, is_full
    from xk8s.util.paths import clusters_dir

    if is_full(error):
        return HostError(
            "the disk is full",
            where=str(error.filename or ""),
            hint="free disk space, or set XK8S_CACHE and XK8S_STATE to directories elsewhere",
        )
    blamed = disk_error(error, Path(str(error.filename or clusters_dir().parent)))
    if blamed is not None:
        return blamed
    if error.filename and _refused(error):
        return HostError(
            f"{error.strerror}: {os.fsdecode(error.filename)}",
            where=os.fsdecode(error.filename),
            hint="make it readable and writable, or set XK8S_CACHE, XK8S_STATE or XK8S_RUNTIME to "
            "directories elsewhere",
        )
    return None


_REFUSALS = frozenset(
    {errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG,
     errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EMFILE, errno.ENFILE, errno.ESTALE}
)  # fmt: skip


def _refused(error: OSError) -> bool:
    """Return whether the file system says no. That something is missing is our own mistake, unless
    it is one of the directories that the user names.
    """
    if error.errno in _REFUSALS:
        return True
    if error.errno not in (errno.ENOENT, errno.EEXIST):
        return False
    from xk8s.util.paths import cache_dir, clusters_dir, runtime_root

    path = Path(os.fsdecode(error.filename))
    return any(root.is_relative_to(path) for root in (cache_dir(), clusters_dir(), runtime_root()))


def unexpected(error: BaseException) -> Xk8sError:
    """Keep the traceback in a file; the user sees one line and where the file is."""
    import traceback

    path = _write_traceback("".join(traceback.format_exception(error)))
    return Xk8sError(
        f"unexpected {type(error).__name__}: {error}",
        where=f"traceback: {path}",
        hint="this is a bug: please report it with that file",
    )


def as_text(error: Xk8sError, code: int, *, as_json: bool = False) -> str:
    """Format what is printed: what failed, where, what to do, the relevant log, and known faults
    recognised in it.
    """
    if as_json:
        # The same line for --json and --log-json: a log record with the error in it.
        data = {
            "kind": type(error).__name__,
            "message": str(error),
            "where": error.where,
            "do": error.hint,
            "log": error.log,
            "hints": list(error.faults),
            "exit_code": code,
        }
        moment = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        record = {"timestamp": moment, "level": "error", "event": "error", "error": data}
        return json_text(record)
    lines = [f"xk8s: {error}"]
    if error.where:
        lines.append(f"  where: {error.where}")
    if error.hint:
        lines.append(f"  do: {error.hint}")
    if error.log:
        lines += ["  log:", *(f"  | {cut_line(line, MAX_SHOWN)}" for line in _log_lines(error.log))]
    for fault in error.faults:
        lines.append(f"  hint: {fault}".replace("\n", "\n  "))
    # Guests and programs write parts of all of these.
    return without_controls("\n".join(lines))


def _log_lines(log: str) -> list[str]:
    return without_controls(log.rstrip("\n")).splitlines()


def _write_traceback(text: str) -> Path:
    import tempfile

    from xk8s.util.paths import clusters_dir

    name = f"traceback-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    for directory in (clusters_dir().parent, Path(tempfile.gettempdir())):
        path = directory / name
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError:
            continue
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        for old in sorted(directory.glob("traceback-*.log"))[:-_KEPT_TRACEBACKS]:
            with contextlib.suppress(OSError):  # of another user, in /tmp
                old.unlink()
        return path
    return Path("(could not be written)")
