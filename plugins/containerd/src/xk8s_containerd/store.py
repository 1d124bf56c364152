"""Recipe: containerd's store, filled here by a containerd of our own, as an EROFS image.

A node gets it for nothing: `tmpfiles` copies two small databases into the tmpfs below
/var/lib/containerd and makes links to the blobs and the unpacked snapshots, which stay in the
read-only layer. No image is imported, hashed or unpacked at boot, and none takes memory.

The work is done by `xk8s_containerd.inside`, in a mount namespace (and a user namespace when
we are not root) that ends with it.
"""

from __future__ import annotations

import getpass
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from xk8s.errors import BuildError, HostError
from xk8s_images.layout import config_digest, layout_tar

if TYPE_CHECKING:
    from xk8s.artifacts.recipe import Kitchen


def bake(kitchen: Kitchen) -> None:
    """Write ``store.erofs``. `HostError` says which program is missing; `BuildError` has
    containerd's log.
    """
    mkfs = shutil.which("mkfs.erofs", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if mkfs is None:
        raise HostError(
            "the program mkfs.erofs is not installed",
            where="PATH",
            hint="apt-get install erofs-utils (./run does it)",
        )
    images = []
    for artifact, ref in sorted(kitchen.params["images"].items()):
        kitchen.check()
        layout = kitchen.inputs[artifact] / "oci"
        archive = kitchen.work / f"{artifact}.tar"
        layout_tar(layout, archive)
        images.append(
            {
                "ref": ref,
                "archive": str(archive),
                "id": config_digest(layout),
                "pinned": ref in kitchen.params["pinned"],
            }
        )
    job = kitchen.work / "job.json"
    job.write_text(
        json.dumps(
            {
                "images": images,
                "programs": str(kitchen.inputs["containerd"]),
                "layer": kitchen.params["layer"],
                "out": str(kitchen.out / "store.erofs"),
                "mkfs": mkfs,
            }
        )
    )
    try:
        kitchen.run(
            [*namespace_argv(), sys.executable, "-m", "xk8s_containerd.inside", job],
            cwd=kitchen.work,
        )
    except BuildError as error:
        error.where = "the image store of containerd"
        error.hint = (
            "filling it needs user namespaces with mounts "
            "(sysctl kernel.unprivileged_userns_clone=1) or root"
        )
        raise


def namespace_argv() -> list[str]:
    """`unshare` and its options: a private mount namespace, in which we are root.

    Subordinate ids, where this user has some, let images keep files of other owners.
    """
    argv = ["unshare", "--mount", "--propagation", "private"]
    if os.geteuid() == 0:
        return argv
    argv += ["--user", "--map-root-user"]
    if shutil.which("newuidmap") and has_subids(Path("/etc/subuid")):
        argv += ["--map-auto"]
    return argv


def has_subids(path: Path) -> bool:
    """Whether /etc/subuid (or subgid) has a range for this user."""
    try:
        names = {getpass.getuser(), str(os.getuid())}
        lines = path.read_text().splitlines()
    except (OSError, KeyError):
        return False
    return any(line.split(":")[0] in names for line in lines)
