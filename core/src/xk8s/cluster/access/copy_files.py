"""Copies between this machine and guests: tar over a session, so any size and no network."""

from __future__ import annotations

import os
import posixpath
import shlex
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from attrs import frozen

from xk8s.cluster.access.copy_trees import pack, unpack
from xk8s.cluster.handle import Cluster
from xk8s.errors import HostError, Interrupted, MachineError, UsageError, Xk8sError
from xk8s.machine.qemu.session import NoProgramError, Request
from xk8s.machine.qemu.streams import connect

_HOME = "/root"
_CHANGED = 1
"""tar's exit code when a file, such as a log, changed while it was read."""
_ERRORS = 4000
_RECORDS = "512"
"""In blocks of 512 bytes: tar reads and writes pipes in 10 KiB otherwise."""
_SEND = """\
path=$(readlink -f -- "$1") && [ -e "$path" ] || { echo "no such file or directory" >&2; exit 2; }
cd "$(dirname "$path")" && exec tar -b 512 -cf - -- "$(basename "$path")"
"""


@frozen
class Remote:
    """A path of a node; a relative one is below /root."""

    node: str
    path: str

    def __str__(self) -> str:
        """Return it as it is written."""
        return f"{self.node}:{self.path}"

    @property
    def full(self) -> str:
        """Return the absolute path."""
        return posixpath.normpath(posixpath.join(_HOME, self.path))


def upload(cluster: Cluster, sources: Sequence[Path], target: Remote) -> None:
    """Copy files and directories of this machine to a node. `HostError` for what cannot be read
    here, `MachineError` for what cannot be written there; both name the path.
    """
    for source in sources:
        if not source.exists():
            raise UsageError(f"{source}: no such file or directory")
    code, _ = _run(cluster, target, ("test", "-d", target.full))
    into = code == 0
    if not into and (len(sources) > 1 or target.path.endswith("/")):
        raise UsageError(f"{target}: not a directory of the node")
    for source in sources:
        parent, name = (
            (target.full, source.absolute().name or "root")
            if into
            else posixpath.split(target.full)
        )
        command = ("tar", "-b", _RECORDS, "-xpf", "-", "--keep-directory-symlink", "-C", parent)
        _stream(cluster, target, command, to_guest=lambda out: pack(source, name, out))  # noqa: B023


def download(cluster: Cluster, sources: Sequence[Remote], target: Path) -> None:
    """Copy files and directories of nodes to this machine; errors as those of `upload`."""
    into = target.is_dir()
    if not into and len(sources) > 1:
        raise UsageError(f"{target}: not a directory of this machine")
    if not into and not target.absolute().parent.is_dir():
        raise UsageError(f"{target}: there is no such directory")
    for source in sources:
        name = posixpath.basename(source.full) or source.node
        parent, name = (target, name) if into else (target.absolute().parent, target.name)
        command = ("sh", "-c", _SEND, "sh", source.full)
        _stream(cluster, source, command, from_guest=lambda data: unpack(data, parent, name))  # noqa: B023


def _stream(
    cluster: Cluster,
    remote: Remote,
    command: Sequence[str],
    *,
    to_guest: Callable[[BinaryIO], object] | None = None,
    from_guest: Callable[[BinaryIO], object] | None = None,
) -> None:
    """Run a command whose input or output a function makes or takes, in a thread of its own."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    failed: list[Exception] = []

    def work() -> None:
        try:
            if to_guest:
                with os.fdopen(writer, "wb") as sent:
                    to_guest(sent)
            elif from_guest:
                with os.fdopen(reader, "rb") as taken:
                    if taken.peek(1):  # else the guest says why it sent nothing
                        from_guest(taken)
                    while taken.read(1 << 20):
                        pass  # the padding behind the end of an archive
        except Exception as error:
            failed.append(error)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    code, errors = 0, ""
    try:
        if to_guest:
            code, errors = _run(cluster, remote, command, stdin=reader)
        else:
            code, errors = _run(cluster, remote, command, stdout=writer)
    except BrokenPipeError:
        pass  # the other side has stopped, and says why
    finally:
        os.close(reader if to_guest else writer)
        worker.join()
    if code > 128:
        raise Interrupted("interrupted")
    _raise_local(failed, remote, guest_failed=code > _CHANGED)
    if code > (0 if to_guest else _CHANGED):
        raise MachineError(f"{remote}: {errors or f'tar ended with {code}'}")


def _raise_local(failed: Sequence[Exception], remote: Remote, *, guest_failed: bool) -> None:
    for error in failed:
        if isinstance(error, Xk8sError):
            raise error
        if isinstance(error, BrokenPipeError) or guest_failed:
            continue  # for the guest stopped first
        if isinstance(error, OSError) and error.filename is not None:
            raise HostError(f"{error.filename}: {error.strerror}") from error
        raise HostError(f"{remote}: {error}") from error


def _run(
    cluster: Cluster,
    remote: Remote,
    command: Sequence[str],
    *,
    stdin: int | None = None,
    stdout: int | None = None,
) -> tuple[int, str]:
    """Return the exit code and the last line of what it said about errors."""
    with tempfile.TemporaryFile() as errors:
        output = errors.fileno() if stdout is None else stdout
        try:
            with cluster.session(remote.node, Request(argv=tuple(command))) as session:
                code = connect(session, stdin=stdin, stdout=output, stderr=errors.fileno())
        except NoProgramError as error:
            raise MachineError(
                f"{remote}: the node cannot run {shlex.join(command)}: {error}"
            ) from None
        errors.seek(0)
        lines = errors.read(_ERRORS).decode(errors="replace").splitlines()
    # tar's last line says only that there were errors.
    lines = [line for line in lines if "Exiting with failure status" not in line] or lines
    return code, lines[0].removeprefix("tar: ") if lines else ""
