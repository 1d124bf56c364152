"""Common parts of overlays that provide ``cri`` for filling an image store at build time.

The work is done in a mount namespace of its own, by a user who is root there and need not be
root here: see `namespace_argv`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xk8s import subordinate_ids
from xk8s.errors import BuildError, HostError

if TYPE_CHECKING:
    from xk8s.recipe import RecipeContext

NAMESPACE_HINT = (
    "filling an image store needs user namespaces with mounts "
    "(sysctl kernel.unprivileged_userns_clone=1) or root"
)


def find_mkfs() -> str:
    """Return the path of mkfs.erofs; `HostError` if it is not installed."""
    found = shutil.which("mkfs.erofs", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise HostError(
            "the program mkfs.erofs is not installed",
            where="PATH",
            hint="apt-get install erofs-utils (./run does it)",
        )
    return found


def run_in_namespace(
    recipe: RecipeContext, module: str, job: Mapping[str, Any], *, runtime: str
) -> None:
    """Run ``python -m MODULE job.json`` in the recipe's scratch directory, as root of a mount
    namespace that ends with it. `BuildError`, with the program's output, names ``runtime``.
    """
    path = recipe.work / "job.json"
    path.write_text(json.dumps(job))
    try:
        # Programs that keep files in a home directory must not read or change the user's.
        recipe.run(
            [*namespace_argv(), sys.executable, "-m", module, path],
            cwd=recipe.work,
            env={"HOME": str(recipe.work)},
        )
    except BuildError as error:
        error.where = f"the image store of {runtime}"
        error.hint = NAMESPACE_HINT if "unshare:" in error.log else ""
        raise


def write_erofs(mkfs: str, tree: Path, out: Path) -> None:
    """Write an EROFS image of ``tree`` with its owners and devices, which `xk8s.layers` would drop.

    Time 0 and a fixed identity. CalledProcessError when mkfs.erofs fails.
    """
    options = ["--quiet", "-T0", "-U6b7dbbdf-0f6c-5a37-8d3b-0f5f5a1d7b7b"]
    subprocess.run([mkfs, *options, out, tree], check=True)


def namespace_argv() -> list[str]:
    """Return `unshare` and its options: a private mount namespace, in which we are root.

    Subordinate ids, where this user has some, let images keep files of other owners.
    """
    argv = ["unshare", "--mount", "--propagation", "private"]
    if os.geteuid() == 0:
        return argv
    argv += ["--user", "--map-root-user"]
    if shutil.which("newuidmap") and subordinate_ids.has_range(subordinate_ids.FILES[0]):
        argv += ["--map-auto"]
    return argv
