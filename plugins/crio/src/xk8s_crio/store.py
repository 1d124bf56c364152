"""Recipe: a read-only image store of containers/storage, filled by skopeo, as an EROFS image.

CRI-O finds it as an additional image store: at boot nothing is copied, imported or unpacked.
The work is done by `xk8s_crio.inside` in namespaces of its own.
"""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING

from xk8s.errors import BuildError, HostError
from xk8s_images.stores import NAMESPACE_HINT, find_mkfs, namespace_argv

if TYPE_CHECKING:
    from xk8s.recipe import RecipeContext


def bake(recipe: RecipeContext) -> None:
    """Write ``store.erofs``. `HostError` says which program is missing; `BuildError` has
    skopeo's words.
    """
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        raise HostError(
            "the program skopeo is not installed",
            where="PATH",
            hint="apt-get install skopeo: it fills CRI-O's image store when the layer is built",
        )
    images = {
        ref: str(recipe.inputs[artifact] / "oci")
        for artifact, ref in sorted(recipe.params["images"].items())
    }
    job = recipe.work / "job.json"
    out = str(recipe.out / "store.erofs")
    job.write_text(
        json.dumps({"images": images, "skopeo": skopeo, "out": out, "mkfs": find_mkfs()})
    )
    argv = [*namespace_argv(), sys.executable, "-m", "xk8s_crio.inside", str(job)]
    try:
        recipe.run(argv, cwd=recipe.work, env={"HOME": str(recipe.work)})
    except BuildError as error:
        error.where = "the image store of CRI-O"
        error.hint = NAMESPACE_HINT if "unshare:" in error.log else ""
        raise
