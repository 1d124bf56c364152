"""Files of a running node: made, replaced and removed by its guest agent.

All of it is prepared in a directory beside and then moved to its places: each file appears as a
whole, and a program that runs can be replaced.
"""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Iterable, Iterator, Sequence

import attrs

from xk8s.cluster.handle import Cluster
from xk8s.errors import MachineError
from xk8s.overlay import Directory, Entry, File, Symlink

SECONDS = 300.0
STAGE = "/.xk8s-apply"
"""In the guest, on the file system of its root."""

_GONE, _REPLACED, _DIRECTORIES, _FILES = "gone", "replaced", "directories.tar", "files"

# Arguments: the root, the stage. A list may be of any length, a path of any characters. A program
# costs tens of milliseconds to start without KVM: none is for what is empty. What lies behind a
# link is not what was meant, and stays: an apply that repairs another cannot know of the link.
#
# A program that watches a directory may wait for a write and ignore what is moved in (containerd
# and its CNI configuration): files that no one runs are "written" once more, with nothing, at the
# end.
PLACE = r"""
cd "$1"
if [ -s "$2/gone" ]; then
    xargs -0 sh -ec 'for path do
        above=$path
        while [ "$above" != "${above%/*}" ]; do
            above=${above%/*}
            [ ! -L "$above" ] || continue 2
        done
        if [ -d "$path" ] && [ ! -L "$path" ]; then rmdir --ignore-fail-on-non-empty -- "$path"
        else rm -f -- "$path"; fi
    done' sh <"$2/gone"
fi
if [ -s "$2/replaced" ]; then xargs -0 rm -rf -- <"$2/replaced"; fi
if [ -s "$2/directories.tar" ]; then
    tar --extract --preserve-permissions --file="$2/directories.tar" --directory="$1"
fi
cd "$2/files"
find . -type f ! -perm /111 -print0 >"$2/written"
find . ! -type d -printf '%h\0' | sort -zu | xargs -0r sh -ec 'root=$1; shift
for path do
    [ -d "$root/$path" ] || mkdir -p "$root/$path"
    find "$path" -mindepth 1 -maxdepth 1 ! -type d -exec mv -f -t "$root/$path" -- {} +
done' sh "$1"
cd "$1"
if [ -s "$2/written" ]; then xargs -0 truncate --no-create --size=+0 -- <"$2/written"; fi
rm -rf "$2"
"""

_RECEIVE = r"""
set -e
rm -rf "$2"
mkdir -m 700 "$2"
tar --extract --preserve-permissions --file=- --directory="$2"
"""


def push(
    cluster: Cluster,
    node: str,
    put: Iterable[Entry],
    *,
    gone: Sequence[str] = (),
    replaced: Sequence[str] = (),
) -> None:
    """Create or replace files, links and directories of a running node, owned by root, with their
    modes. Before that, ``gone`` are removed (directories only if they are empty), and ``replaced``
    with everything in them. `MachineError` if the guest cannot.
    """
    entries = list(put)
    packed = _pack(staged(entries, gone, replaced))
    argv = ["sh", "-c", _RECEIVE + PLACE, "sh", "/", STAGE]
    run(cluster, node, argv, len(entries) + len(gone) + len(replaced), stdin=packed)


def run(
    cluster: Cluster, node: str, argv: Sequence[str], count: int, *, stdin: bytes = b""
) -> None:
    """Run what changes ``count`` files; `MachineError` with its words when it fails."""
    try:
        result = cluster.run(node, argv, stdin=stdin, timeout=SECONDS)
    except TimeoutError as error:
        raise MachineError(str(error), where=node) from error
    if result.exit_code != 0:
        raise MachineError(
            f"{node}: {count} files could not be written",
            where=node,
            log=result.stderr.decode(errors="replace").strip(),
        )


def staged(
    entries: Iterable[Entry], gone: Iterable[str], replaced: Iterable[str]
) -> Iterator[Entry]:
    """Return the content of the stage."""
    directories = []
    yield Directory(path=f"/{_FILES}")
    for entry in entries:
        if isinstance(entry, Directory):
            directories.append(entry)
        else:
            yield attrs.evolve(entry, path=f"/{_FILES}{entry.path}")
    for name, data in (
        (_GONE, _list(gone)),
        (_REPLACED, _list(replaced)),
        (_DIRECTORIES, _pack(directories) if directories else b""),
    ):
        yield File(path=f"/{name}", data=data, mode=0o600)


def _pack(entries: Iterable[Entry]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for entry in entries:
            data = io.BytesIO(entry.data) if isinstance(entry, File) else None
            archive.addfile(_info(entry), data)
    return packed.getvalue()


def _info(entry: Entry) -> tarfile.TarInfo:
    info = tarfile.TarInfo(entry.path.lstrip("/"))
    info.mtime = int(time.time())
    match entry:
        case File():
            info.size, info.mode = len(entry.data), entry.mode
        case Directory():
            info.type, info.mode = tarfile.DIRTYPE, entry.mode
        case Symlink():
            info.type, info.linkname = tarfile.SYMTYPE, entry.target
        case _:
            raise TypeError(f"{entry.path} has no content yet")
    return info


def _list(paths: Iterable[str]) -> bytes:
    return b"".join(path.lstrip("/").encode(errors="surrogateescape") + b"\0" for path in paths)
