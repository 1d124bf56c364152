"""The seed's mechanism: overlays as tar files on a disk, unpacked by the first program at boot.

As xcluster did it: the base image is a disk that is the root; a second disk (there an ISO image)
has one plain, uncompressed tar file per overlay; /sbin/init unpacks them over the root in the order
of their names, and then hands over to the real one.
"""

from __future__ import annotations

import io
import posixpath
import stat
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from xk8s.build.layers.erofs_read import open_image
from xk8s.build.layers.erofs_write import make_image
from xk8s.errors import BuildError

PLACE = "xk8s-bench"
"""Directory of the tar files, in the root of their disk and so in the guest's."""

INIT = "/usr/sbin/init"

_SCRIPT = """\
#!/bin/sh
# The seed's way: overlays are unpacked over the root, in the order of their names.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
for tar in /{place}/*.tar; do
    tar -C / -o -xf "$tar" || {{ echo "xk8s-bench: $tar is not unpacked" >/dev/console; exit 1; }}
    # Where programs look for a layer's own files, these now are.
    name=${{tar##*/??-}}
    ln -s / "/run/xk8s/layers/${{name%.tar}}"
done
exec {init} "$@"
"""


def real_init(base: Path) -> str:
    """Return the target of /sbin/init in a base image; `BuildError` if it is not a link."""
    with open_image(base) as image:
        found = image.find(INIT)
    if found is None or not found.target:
        raise BuildError(
            f"{INIT} is not a link in the base image",
            where=str(base),
            hint="the comparison `layers` puts a program of its own in its place: without one, "
            "it cannot tell what to hand over to",
        )
    return posixpath.normpath(posixpath.join(posixpath.dirname(INIT), found.target))


def write_tar(image: Path, out: Path) -> list[str]:
    """Write all files of an EROFS image to a plain tar file; return the paths of its regular files.

    `BuildError` when it has what a tar of files cannot bring (devices).
    """
    paths = []
    with open_image(image) as source, tarfile.open(out, "w", format=tarfile.GNU_FORMAT) as tar:
        for entry in source.walk():
            member = tarfile.TarInfo(entry.path.lstrip("/"))
            member.mode = stat.S_IMODE(entry.mode)
            match entry.kind:
                case "directory":
                    member.type = tarfile.DIRTYPE
                    tar.addfile(member)
                case "link":
                    member.type = tarfile.SYMTYPE
                    member.linkname = entry.target
                    tar.addfile(member)
                case "file":
                    member.size = entry.size
                    tar.addfile(member, io.BytesIO(source.read(entry.path)))
                    paths.append(entry.path)
                case _:
                    raise BuildError(f"{entry.path} is not a file", where=str(image))
    return paths


def tar_disk(layers: Sequence[tuple[str, Path]], init: str, out: Path) -> tuple[int, list[str]]:
    """Return the disk with a tar file for each layer (name, image), lowest first, and the program
    that unpacks them and then runs ``init``. How many bytes the tars have, and one path of a file
    in each that has any.
    """
    some: list[str] = []
    size = 0
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        tree = Path(scratch, "tree")
        place, program = tree / PLACE, tree / INIT.lstrip("/")
        for directory in (tree, place, tree / "usr", program.parent):
            directory.mkdir()
            directory.chmod(0o755)  # it decides how the guest's directory of that name is
        for number, (name, image) in enumerate(layers):
            tar = place / f"{number:02}-{name.replace('/', '-')}.tar"
            some += write_tar(image, tar)[:1]
            tar.chmod(0o644)
            size += tar.stat().st_size
        program.write_text(_SCRIPT.format(place=PLACE, init=init))
        program.chmod(0o755)
        out.unlink(missing_ok=True)
        make_image(tree, out)
    out.chmod(0o600)
    return size, some
